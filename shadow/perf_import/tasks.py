# SPDX-License-Identifier: GPL-2.0-only
"""Which process a thread is of, where lines tell threads alone."""

from collections.abc import Sequence

from shadow.perf_import.said import Called, Forked, Said

__all__ = ("nobody", "processes_of")

_UNKNOWN = 1
"""The pid of a process of which no line tells any."""


def nobody(said: Sequence[Said]) -> int:
    """The process of the lines that tell nobody: strace prints none while there is only one.

    It says itself what it is (set_tid_address), or it is the first that is told later and
    that nobody has forked.
    """
    for each in said:
        if not each.tid and isinstance(each.what, Called) and each.what.call == "gettid":
            return each.what.result if each.what.result > 0 else _UNKNOWN
    children = {each.what.child for each in said if isinstance(each.what, Forked)}
    return next((s.tid for s in said if s.tid and s.tid not in children), _UNKNOWN)


def processes_of(said: Sequence[Said], alone: int) -> dict[int, int]:
    """The process of each thread; one that is missing is a process of its own.

    Args:
        said: all lines, since a thread may be told of before who made it is.
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
    """Follow threads that threads have made to their process; rings end somewhere in them."""
    seen = set[int]()
    while tid not in seen and found.get(tid, tid) != tid:
        seen.add(tid)
        tid = found[tid]
    return tid
