# SPDX-License-Identifier: GPL-2.0-only
"""Experiments on PTE pages, as rows: an action, its outcome, and pte_ref's verdict.

These are the rows of the observed experiments D1 to D5 (docs/reference/semantics.md) that a single
process can cause and that have an outcome which only calls and faults decide. Other rows are left
out for these reasons:

- 84, two threads that race: the outcome varies; tests/live/test_threads.py tests it;
- 82, 83, swap: only an audit, and no event, shows the pages that a PAGEOUT has swapped;
- 66, 68, 69 and most of 90, files: the page cache decides how many entries a fault makes, and a
  truncation by ftruncate is not a call on the mapping;
- 71 to 73, userfaultfd: an ioctl sets its markers, which no probe sees;
- 58b, a child that writes to a forked huge page: it belongs to the child's history;
- 81, multi-size THP: it needs other settings of the host; tools/accuracy changes them;
- 80, khugepaged: no event, 75 s; 97: the kernel refuses the madvise for another process.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.live.actor import SLOT, Actor
from tracer.page_size import PAGE

__all__ = ("BASE", "FAR", "FORKS", "ROWS", "SLOTS", "SemanticsRow")

BASE = 0x10_0000_0000
SLOTS = 16
FAR = 64
"""The first slot of the destination of moves, counted from BASE."""
_HALF = SLOT // 2
_DONTNEED, _FREE, _REMOVE, _HUGEPAGE = 4, 8, 9, 14
_PAGEOUT, _POPULATE_READ, _DONTNEED_LOCKED, _COLLAPSE = 21, 22, 24, 25
_MAYMOVE, _FIXED, _DONTUNMAP = 1, 2, 4
_GUARD_INSTALL, _GUARD_REMOVE = 102, 103
_NONE, _READ, _RW = 0, 1, 3
_FULL = SLOT // PAGE


@dataclass(frozen=True)
class SemanticsRow:
    """One experiment.

    Attributes:
        number: its number in the reference, which has the sizes of x86-64.
        act: the action of the process; slots are counted from BASE.
        kernel: entries of each PTE page that remains on Linux 6.14 and later, by slot.
        pte_ref: slots with a PTE page under pte_ref.
        huge: slots with a leaf PMD.
    """

    number: str
    act: Callable[[Actor], object]
    kernel: dict[int, int] = field(default_factory=dict)
    pte_ref: set[int] = field(default_factory=set)
    huge: set[int] = field(default_factory=set)


def _at(slot: float) -> int:
    return BASE + int(slot * SLOT)


def _mapped(actor: Actor, slots: float = SLOTS) -> Actor:
    """Map private anonymous memory of this number of slots, without THP."""
    actor.map(BASE, int(slots * SLOT))
    actor.advise(BASE, int(slots * SLOT), mmap.MADV_NOHUGEPAGE)
    return actor


def _filled(actor: Actor, slots: float, first: float = 0) -> Actor:
    _mapped(actor, first + slots)
    actor.touch(_at(first), int(slots * SLOT))
    return actor


def _purge(actor: Actor, first: float, last: float, advice: int = _DONTNEED) -> Actor:
    """One call over [first, last), in slots."""
    assert actor.advise(_at(first), _at(last) - _at(first), advice) == 0
    return actor


def _purge_in_pieces(actor: Actor, slots: int, piece: int) -> None:
    for start in range(0, slots * SLOT, piece):
        actor.advise(BASE + start, min(piece, slots * SLOT - start), _DONTNEED)


def _halves(actor: Actor, slot: int) -> Actor:
    """Empty a slot in two calls."""
    return _purge(_purge(actor, slot, slot + 0.5), slot + 0.5, slot + 1)


def _in_pieces(piece: int) -> Callable[[Actor], object]:
    return lambda actor: _purge_in_pieces(_filled(actor, 4), 4, piece)


def _first_page_of_each(actor: Actor) -> None:
    _mapped(actor).touch(BASE, 4 * SLOT, SLOT)


def _but_the_last_page(actor: Actor) -> Actor:
    page = PAGE / SLOT
    return _purge(_filled(actor, 1), 0, 1 - page)


def _then_the_last_page(actor: Actor) -> Actor:
    return _purge(_but_the_last_page(actor), 1 - PAGE / SLOT, 1)


def _shifted_by_half(actor: Actor) -> None:
    _purge(_purge(_purge(_filled(actor, 2), 0.5, 1.5), 0, 0.5), 1.5, 2)


def _over_empty_ones(actor: Actor) -> None:
    _purge(_halves(_halves(_filled(actor, 4), 1), 2), 0, 4)


def _shifted_by_a_page(actor: Actor) -> None:
    page = PAGE / SLOT
    _purge(_purge(_purge(_filled(actor, 8), page, 8 - page), 0, page), 8 - page, 8)


def _split_by_protection(actor: Actor) -> None:
    _filled(actor, 1).do("mprotect", _at(0.5), _HALF, _READ)
    _purge(actor, 0, 1)


def _guard_page(actor: Actor) -> None:
    _filled(actor, 1).do("mprotect", _at(1) - PAGE, PAGE, _NONE)
    _purge(actor, 0, 1)


def _calls_of_three_slots(actor: Actor) -> None:
    _mapped(actor).touch(_at(0.25), 15 * SLOT)
    for call in range(5):
        _purge(actor, 0.25 + 3 * call, 3.25 + 3 * call)


def _vectors_of_half_a_slot(actor: Actor) -> None:
    done = _filled(actor, 1).do("process_madvise", _DONTNEED, _at(0), _HALF, _at(0.5), _HALF)
    assert done == SLOT


def _one_vector(actor: Actor) -> None:
    assert _filled(actor, 4).do("process_madvise", _DONTNEED, BASE, 4 * SLOT) == 4 * SLOT


def _locked(actor: Actor) -> None:
    _filled(actor, 4).do("mlock", BASE, 4 * SLOT)
    assert actor.advise(BASE, 4 * SLOT, _DONTNEED) < 0


def _locked_and_purged(actor: Actor) -> None:
    _locked(actor)
    _purge(actor, 0, 4, _DONTNEED_LOCKED)


def _out_of_reach(actor: Actor) -> None:
    _filled(actor, 2).do("mprotect", BASE, 2 * SLOT, _NONE)
    _purge(actor, 0, 2)


def _shared(actor: Actor) -> Actor:
    actor.map(BASE, 2 * SLOT, _RW, mmap.MAP_SHARED)
    actor.touch(BASE, 2 * SLOT)
    return actor


def _private_file(actor: Actor) -> Actor:
    """Map a file privately and write to it, so that each fault makes one anonymous page."""
    assert actor.do("map_file", BASE, 2 * SLOT, _RW) == BASE
    actor.touch(BASE, 2 * SLOT)
    return actor


def _guarded(actor: Actor) -> Actor:
    return _purge(_mapped(actor), 0, 1, _GUARD_INSTALL)


def _moved(actor: Actor, first: float, length: int, to: float, flags: int = 0) -> None:
    flags |= _MAYMOVE | (0 if flags & _DONTUNMAP and to < 0 else _FIXED)
    assert actor.do("mremap", _at(first), length, length, flags, _at(to)) == _at(to)


def _move_with_an_empty_one(actor: Actor) -> None:
    _halves(_filled(actor, 2), 1)
    _moved(actor, 0, 2 * SLOT, FAR)


def _move_in_pieces(actor: Actor) -> None:
    _filled(actor, 1)
    _moved(actor, 0, _HALF, FAR)
    _moved(actor, 0.5, _HALF, FAR + 0.5)


def _move_off_the_grid(actor: Actor) -> None:
    """Slot 0 full, slot 1 empty, moved by half a slot."""
    _halves(_filled(actor, 2), 1)
    _moved(actor, 0, 2 * SLOT, FAR + 0.5)


def _huge(actor: Actor, slots: int = 1) -> Actor:
    actor.map(BASE, slots * SLOT)
    actor.advise(BASE, slots * SLOT, _HUGEPAGE)
    actor.touch(BASE, slots * SLOT, SLOT)
    return actor


def _fault_where_an_empty_one_is(actor: Actor) -> None:
    _halves(_filled(actor, 1), 0)
    actor.advise(BASE, SLOT, _HUGEPAGE)
    actor.touch(BASE, PAGE)


def _collapse(actor: Actor) -> None:
    _filled(actor, 1).advise(BASE, SLOT, _HUGEPAGE)
    _purge(actor, 0, 1, _COLLAPSE)


def _collapse_an_empty_one(actor: Actor) -> None:
    _halves(_filled(actor, 1), 0).advise(BASE, SLOT, _HUGEPAGE)
    _purge(actor, 0, 1, _COLLAPSE)


def _all(slots: int, entries: int) -> dict[int, int]:
    return dict.fromkeys(range(slots), entries)


_EMPTY_4 = _all(4, 0)

ROWS = (
    SemanticsRow("2", _first_page_of_each, _all(4, 1), {0, 1, 2, 3}),
    SemanticsRow("4", lambda a: _purge(_filled(a, 1), 0, 1)),
    SemanticsRow("5a", _but_the_last_page, {0: 1}, {0}),
    SemanticsRow("5b", _then_the_last_page, {0: 0}),
    SemanticsRow("6", lambda a: _purge(_then_the_last_page(a), 0, 1)),
    SemanticsRow("7", _shifted_by_half, {0: 0, 1: 0}),
    SemanticsRow("8", _over_empty_ones),
    SemanticsRow("9, 4K", _in_pieces(PAGE), _EMPTY_4),
    SemanticsRow("9, 64K", _in_pieces(SLOT // 32), _EMPTY_4),
    SemanticsRow("9, 256K", _in_pieces(SLOT // 8), _EMPTY_4),
    SemanticsRow("9, 1M", _in_pieces(SLOT // 2), _EMPTY_4),
    SemanticsRow("9, 2044K", _in_pieces(SLOT - PAGE), _EMPTY_4),
    SemanticsRow("9, 2048K", _in_pieces(SLOT)),
    SemanticsRow("10", _shifted_by_a_page, {0: 0, 7: 0}),
    SemanticsRow("11", lambda a: _purge(_filled(a, 1.5), 0, 1.5), {1: 0}),
    SemanticsRow("12", _split_by_protection, {0: 0}),
    SemanticsRow("13", _guard_page, {0: 0}),
    SemanticsRow("91", _calls_of_three_slots, dict.fromkeys((0, 3, 6, 9, 12, 15), 0)),
    SemanticsRow("24, 95", _vectors_of_half_a_slot, {0: 0}),
    SemanticsRow("23", _one_vector),
    SemanticsRow("22a", _locked, _all(4, _FULL), {0, 1, 2, 3}),
    SemanticsRow("22b", _locked_and_purged),
    SemanticsRow("41", _out_of_reach),
    SemanticsRow("94", lambda a: _purge(_shared(a), 0, 2)),
    SemanticsRow("20a", lambda a: _purge(_filled(a, 4), 0, 4, _FREE), _all(4, _FULL), {0, 1, 2, 3}),
    SemanticsRow("20b", lambda a: _purge(_purge(_filled(a, 4), 0, 4, _FREE), 0, 4)),
    SemanticsRow(
        "21", lambda a: _purge(_purge(_filled(a, 4), 0, 4, _FREE), 0, 4, _PAGEOUT), _EMPTY_4
    ),
    SemanticsRow(
        "26a", lambda a: _filled(a, 3).do("munmap", _at(1), SLOT), {0: _FULL, 2: _FULL}, {0, 2}
    ),
    SemanticsRow("26b", lambda a: _filled(a, 1).do("munmap", BASE, SLOT - PAGE), {0: 1}, {0}),
    SemanticsRow("27", lambda a: _filled(a, 0.5, 0.5).do("munmap", _at(0.5), _HALF), {0: 0}, {0}),
    SemanticsRow("42a", lambda a: _filled(a, 1).map(BASE, SLOT, _NONE)),
    SemanticsRow("42b", lambda a: _filled(a, 1).map(BASE, _HALF, _NONE), {0: _FULL // 2}, {0}),
    SemanticsRow(
        "65", lambda a: _filled(a, 4).do("mremap", BASE, 4 * SLOT, PAGE, 0, 0), {0: 1}, {0}
    ),
    SemanticsRow("33, 64", _move_with_an_empty_one, {FAR: _FULL, FAR + 1: 0}, {FAR}),
    SemanticsRow("34, 35", _move_in_pieces, {FAR: _FULL}, {FAR}),
    SemanticsRow(
        "36", lambda a: _moved(_filled(a, 1), 0, SLOT, FAR, _DONTUNMAP), {FAR: _FULL}, {FAR}
    ),
    SemanticsRow(
        "37",
        lambda a: _moved(_filled(a, 1), 0, SLOT, FAR + 0.5, _DONTUNMAP),
        {0: 0, FAR: _FULL // 2, FAR + 1: _FULL // 2},
        {0, FAR, FAR + 1},
    ),
    # The reference has no empty PTE page at the destination; move_page_tables makes
    # one for every PTE page of the source, empty or not (mm/mremap.c).
    SemanticsRow(
        "63", _move_off_the_grid, {FAR: _FULL // 2, FAR + 1: _FULL // 2, FAR + 2: 0}, {FAR, FAR + 1}
    ),
    SemanticsRow(
        "30, 31",
        lambda a: _purge(_mapped(a), 0, 4, _POPULATE_READ),
        _all(4, _FULL),
        {0, 1, 2, 3},
    ),
    SemanticsRow("30b", lambda a: _purge(_purge(_mapped(a), 0, 4, _POPULATE_READ), 0, 4)),
    SemanticsRow("32a", lambda a: _mapped(a).do("mlock", BASE, 2 * SLOT), _all(2, _FULL), {0, 1}),
    SemanticsRow("32b", lambda a: _mapped(a).do("mlock2", BASE, 2 * SLOT, 1)),
    SemanticsRow("70", lambda a: _purge(_shared(a), 0, 2, _REMOVE), {0: 0, 1: 0}),
    SemanticsRow("43a", _guarded, {0: _FULL}, {0}),
    SemanticsRow("43b", lambda a: _purge(_guarded(a), 0, 1), {0: _FULL}, {0}),
    SemanticsRow(
        "43c",
        lambda a: _purge(_purge(_filled(a, 1), 0, 0.25, _GUARD_INSTALL), 0, 1),
        {0: _FULL // 4},
        {0},
    ),
    SemanticsRow("44", lambda a: _purge(_guarded(a), 0, 1, _GUARD_REMOVE), {0: 0}, {0}),
    SemanticsRow("90", _private_file, _all(2, _FULL), {0, 1}),
    SemanticsRow("67", lambda a: _purge(_private_file(a), 0, 2)),
    SemanticsRow("50", lambda a: _huge(a, 4), huge={0, 1, 2, 3}),
    SemanticsRow("51", lambda a: _purge(_huge(a), 0, PAGE / SLOT), {0: _FULL - 1}, {0}),
    SemanticsRow("52", lambda a: _purge(_huge(a), 0, 1)),
    SemanticsRow("53", lambda a: _halves(_huge(a), 0), {0: 0}),
    SemanticsRow("54a", lambda a: _purge(_huge(a), 0, 1, _FREE), huge={0}),
    SemanticsRow("54b", lambda a: _purge(_huge(a), 0, PAGE / SLOT, _FREE), {0: _FULL}, {0}),
    SemanticsRow("55", _fault_where_an_empty_one_is, {0: 1}, {0}),
    SemanticsRow("56", lambda a: _huge(a).do("munmap", _at(0.5), _HALF), {0: _FULL // 2}, {0}),
    SemanticsRow("57", lambda a: _huge(a).do("mprotect", _at(0.5), _HALF, _READ), {0: _FULL}, {0}),
    SemanticsRow("59", _collapse, huge={0}),
    SemanticsRow("60", _collapse_an_empty_one, huge={0}),
)


def _not_for_children(advice: int) -> Callable[[Actor], object]:
    return lambda actor: _purge(_filled(actor, 1), 0, 1, advice)


_DONTFORK, _WIPEONFORK = 10, 18

FORKS = (
    SemanticsRow("38", _first_page_of_each, _all(4, 1)),
    SemanticsRow("39", lambda a: _halves(_filled(a, 2), 1), {0: _FULL, 1: 0}),
    SemanticsRow("39b", _shared),
    SemanticsRow("40a", _not_for_children(_DONTFORK)),
    SemanticsRow("40b", _not_for_children(_WIPEONFORK)),
    SemanticsRow("62", lambda a: _mapped(a).read(BASE, SLOT)),
)
"""Actions before a fork, and the resulting PTE pages of the child."""
