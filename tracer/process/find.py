# SPDX-License-Identifier: GPL-2.0-only
"""Find a process by its name."""

import os
from contextlib import suppress
from pathlib import Path

from shadow.errors import NoSuchTargetError, NotPermittedError, UsageError
from tracer.process.target import open_target
from tracer.procfs import read_living

__all__ = ("find_all_by_name", "find_by_name")


def _executable(pid: int, exe: str | None) -> str:
    """The file name of the executable; psutil finds none if the main thread has ended."""
    if not exe:
        with suppress(OSError):
            exe = str(read_living(pid, lambda task: (task / "exe").readlink()))
    return Path(exe or "").name


def _can_be_followed(pid: int) -> bool:
    try:
        open_target(pid)
    except (NoSuchTargetError, UsageError):  # a zombie, a kernel thread, a 32-bit program
        return False
    except NotPermittedError:
        pass
    return True


def find_all_by_name(name: str) -> list[int]:
    """The pids of all processes with this name (comm, or the executable's file name).

    Those that cannot be followed are not among them, unless there are no others.

    Raises:
        NoSuchTargetError: there is none.
        UsageError: the name is empty.
    """
    import psutil  # only a search by name needs it

    if not name:  # all kernel threads would match: they have no executable
        raise UsageError("A process name cannot be empty: give -n NAME or -p PID.")
    found: list[int] = [
        process.pid
        for process in psutil.process_iter(["name", "exe"])
        if process.pid != os.getpid()
        and name in (process.info["name"], _executable(process.pid, process.info["exe"]))
    ]
    if not found:
        raise NoSuchTargetError(f"There is no process named {name!r}.")
    if len(found) > 1:
        found = [pid for pid in found if _can_be_followed(pid)] or found
    return sorted(found)


def find_by_name(name: str) -> int:
    """The pid of the one process with this name.

    Raises:
        NoSuchTargetError: there is none.
        UsageError: there are several.
    """
    found = find_all_by_name(name)
    if len(found) > 1:
        listed = " ".join(map(str, found[:10]))
        raise UsageError(f"{len(found)} processes are named {name!r}: choose one with -p: {listed}")
    return found[0]
