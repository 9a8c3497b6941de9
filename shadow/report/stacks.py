# SPDX-License-Identifier: GPL-2.0-only
"""The code that made and emptied the empty PTE pages, in a few lines of text."""

from collections.abc import Callable, Iterator
from itertools import groupby

from shadow.plural import counted
from shadow.stacks import Frame, StackGroup, StackReport, StackTotals

__all__ = ("stack_lines",)

_LINES = 3
"""Most stacks of each part."""
_PLACES = 7
"""Most places of a stack in a line."""
_LONGEST = 60
"""Most characters of a place; names of C++ templates can have hundreds."""
_NS_PER_US = 1e3


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _places(frames: list[Frame]) -> Iterator[str]:
    """The places of a stack, innermost first; consecutive unnamed frames of a module are one."""
    for module, group in groupby(frames, lambda each: None if each.function else each.module):
        run = list(group)
        if module is not None and len(run) > 1:
            yield f"{_short(module)} ({len(run)} frames)"
        else:
            yield from (_short(str(frame)) for frame in run)


def _path(report: StackReport, stack: int) -> str:
    """A stack in one line."""
    places = list(_places([report.frames[number] for number in report.stacks[stack].frames]))
    shown = places[:_PLACES]
    if len(places) > _PLACES:
        shown = [*places[: _PLACES - 1], "…", places[-1]]
    end = "" if report.stacks[stack].complete else " < …"
    return " < ".join(shown) + end


def _part(
    title: str, report: StackReport, stack_of: Callable[[StackGroup], tuple[str, int | None]]
) -> list[str]:
    """The largest stacks of one part, and the number of PTE pages without a stack."""
    total, unknown = 0, 0
    pages: dict[tuple[str, int], int] = {}
    for group in report.pages:
        call, stack = stack_of(group)
        total += group.pte_pages
        if stack is None:
            unknown += group.pte_pages
        else:
            pages[call, stack] = pages.get((call, stack), 0) + group.pte_pages
    largest = sorted(pages.items(), key=lambda item: -item[1])
    lines = [
        f"{count:10,} of {total:,}   {call}: {_path(report, stack)}"
        for (call, stack), count in largest[:_LINES]
    ]
    if left := largest[_LINES:]:
        rest = sum(count for _, count in left)
        lines.append(f"{rest:10,} of {total:,}   {counted(len(left), 'other stack')}")
    if unknown:
        lines.append(f"{unknown:10,} of {total:,}   without a stack")
    return [f"  {title if at == 0 else '':<13} {line}" for at, line in enumerate(lines)]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _totals(totals: StackTotals) -> list[str]:
    others = totals.seen - totals.sure
    lines = [
        f"  stacks        {totals.sure_taken:10,}   of {totals.sure:,} events that made or emptied "
        "a PTE page,",
        f"                {totals.taken - totals.sure_taken:10,}   of {others:,} other calls and "
        f"faults; at most {totals.rate:,} a second",
    ]
    if totals.unwound:
        each = totals.unwind_ns / totals.unwound / _NS_PER_US
        lines.append(
            f"                {_share(totals.complete, totals.unwound)} complete, "
            f"{_share(totals.repeats, totals.unwound)} recognised; {each:.1f} us of CPU each to "
            f"unwind, {totals.names_ns / 1e6:,.0f} ms to name them"
        )
    if totals.lost or totals.unread:
        lines.append(
            f"  LOST          {totals.lost:,} stacks, because their ring was full; "
            f"{totals.unread:,} could not be read"
        )
    if totals.problem:
        lines.append(f"  note          {totals.problem}")
    return lines


def stack_lines(report: StackReport | None) -> list[str]:
    """The stacks of the empty PTE pages; no lines if nobody requested stacks."""
    if report is None:
        return []
    return [
        "",
        *_totals(report.totals),
        *_part("emptied in", report, lambda each: (each.emptied_call, each.emptied_stack)),
        *_part("made in", report, lambda each: (each.made_call, each.made_stack)),
    ]
