# SPDX-License-Identifier: GPL-2.0-only
"""The largest resident set of a process."""

from pathlib import Path

__all__ = ("peak_kib",)


def peak_kib(pid: int) -> int:
    """The largest resident set so far; 0: the process has ended.

    ru_maxrss includes the time before execve, when a child still has the memory of its parent.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
