# SPDX-License-Identifier: GPL-2.0-only
"""By what processes can belong together."""

import pwd
from collections.abc import Callable
from pathlib import Path

from shadow.snapshot import Snapshot
from tracer.procfs import cgroup_of

__all__ = ("KEYS", "MAPPING")

MAPPING = "mapping"
_ENDED = "(ended)"


def _cgroup(snapshot: Snapshot) -> str:
    try:
        return cgroup_of(snapshot.process.pid)
    except OSError:
        return _ENDED


def _user(snapshot: Snapshot) -> str:
    try:
        uid = Path(f"/proc/{snapshot.process.pid}").stat().st_uid
    except OSError:
        return _ENDED
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


KEYS: dict[str, Callable[[Snapshot], str]] = {
    "name": lambda snapshot: snapshot.process.comm,
    "cgroup": _cgroup,
    "user": _user,
    MAPPING: lambda _: "all of them",
}
"""What names the group of a process; by mapping all are one group."""
