# SPDX-License-Identifier: GPL-2.0-only
"""/proc of a process whose main thread may have ended while others run.

The kernel keeps such a main thread as a zombie: /proc/PID/stat and comm still describe it,
but it has no address space, so its maps, pagemap, exe and VmPTE are empty or gone. Any
thread that still runs shows the address space of the process in /proc/PID/task/TID.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ("living_task", "read_living", "stat_fields")

_Result = TypeVar("_Result")
_TRIES = 8
"""A thread that was chosen may end before it is read; then another one is chosen."""


def stat_fields(task: Path) -> list[str]:
    """The fields of a stat file from the third (state) on, numbered from there.

    Raises:
        OSError: the task has ended.
    """
    text = (task / "stat").read_text(errors="replace")
    return text[text.rindex(")") + 2 :].split()


def living_task(pid: int) -> Path:
    """/proc/PID, or /proc/PID/task/TID of a thread that runs where the main thread has ended.

    Raises:
        OSError: no thread runs any more.
    """
    main = Path(f"/proc/{pid}")
    if stat_fields(main)[0] not in "ZX":
        return main
    for task in (main / "task").iterdir():
        try:
            if stat_fields(task)[0] not in "ZX":
                return task
        except OSError:
            continue  # it has just ended
    raise ProcessLookupError(f"process {pid} has no running thread")


def read_living(pid: int, read: Callable[[Path], _Result]) -> _Result:
    """What `read` finds in the folder of a running thread of the process.

    Args:
        pid: the process.
        read: is handed the folder; called again where that thread ends meanwhile, which
            shows as an error or as nothing.

    Raises:
        OSError: no thread runs any more, or what is read may not be.
    """
    for _ in range(_TRIES - 1):
        task = living_task(pid)
        try:
            result = read(task)
        except (FileNotFoundError, ProcessLookupError):
            if living_task(pid) == task:
                raise
        else:
            if result or living_task(pid) == task:
                return result
    return read(living_task(pid))
