# SPDX-License-Identifier: GPL-2.0-only
"""Finds the process of each thread, for formats whose lines name only the thread."""

from collections.abc import Sequence

from shadow.perf_import.said import Called, Forked, Said

__all__ = ("nobody", "processes_of")

_UNKNOWN = 1
"""The pid of a process if no line contains it."""


def nobody(said: Sequence[Said]) -> int:
    """The process of lines without a thread: strace omits it while there is only one.

    Its pid is the result of its set_tid_address. Otherwise it is the first later thread that no
    process in the text forked.
    """
    for each in said:
        if not each.tid and isinstance(each.what, Called) and each.what.call == "gettid":
            return each.what.result if each.what.result > 0 else _UNKNOWN
    children = {each.what.child for each in said if isinstance(each.what, Forked)}
    return next((s.tid for s in said if s.tid and s.tid not in children), _UNKNOWN)


def processes_of(said: Sequence[Said], alone: int) -> dict[int, int]:
    """The process of each thread; a thread that is missing is a process itself.

    Args:
        said: all lines, because a thread may appear before its parent.
        alone: see `nobody`.
    """
    found: dict[int, int] = {}
    for each in said:
        tid = each.tid or alone
        if each.pid is not None:
            found[tid] = each.pid
        if isinstance(each.what, Forked) and each.what.thread:
            found.setdefault(each.what.child, found.get(tid, tid))
    return {tid: _end(found, tid) for tid in found}


def _end(found: dict[int, int], tid: int) -> int:
    """Follow a chain of parents to the process; in a cycle, stop at any member."""
    seen = set[int]()
    while tid not in seen and found.get(tid, tid) != tid:
        seen.add(tid)
        tid = found[tid]
    return tid
