# SPDX-License-Identifier: GPL-2.0-only
"""Repeat each experiment of the semantics page: the kernel, the table, and pte_ref."""

import mmap
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from shadow.policy import Policy
from shadow.table.counters import Counter
from shadow.table.page_set import Pages
from tests.live.actor import Actor
from tests.live.attached import watching
from tests.live.semantics_rows import BASE, FAR, FORKS, ROWS, SLOTS, SemanticsRow
from tests.x86_64 import SLOT
from tracer.follow.session import Session
from tracer.kernel import kernel_facts

_MAYMOVE, _FIXED = 1, 2
_WINDOW = np.array([BASE]), np.array([BASE + (FAR + SLOTS) * SLOT])


def _numbers(slots: npt.NDArray[np.int64]) -> set[int]:
    """Numbers of the slots in the window, counted from BASE."""
    inside = slots[(slots >= _WINDOW[0]) & (slots < _WINDOW[1])]
    return set(((inside - BASE) // SLOT).tolist())


def _entries(pages: Pages) -> dict[int, int]:
    inside = pages.restricted(_WINDOW).entries_by_slot()
    return {(slot - BASE) // SLOT: entries for slot, entries in inside.items()}


def _real(session: Session) -> Pages:
    return session.reader.pages(session.target, session.target.vmas(), within=_WINDOW)


@pytest.fixture(scope="module")
def attach() -> Iterator[Callable[[int], Session]]:
    with watching() as attach:
        yield attach


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_kernel_and_table_do_the_same(row: SemanticsRow, attach: Callable[[int], Session]) -> None:
    if kernel_facts().policy is not Policy.PT_RECLAIM:
        pytest.fail("the rows are those of Linux 6.14 and later")
    actor = Actor()
    # New pages wait on their CPU for the LRU, where MADV_PAGEOUT on another CPU cannot find
    # them (mm/swap.c, cpu_fbatches).
    os.sched_setaffinity(actor.pid, {min(os.sched_getaffinity(actor.pid))})
    try:
        session = attach(actor.pid)
        row.act(actor)
        while session.take():
            pass
        real, shadow = _real(session), session.table.pages()
        assert _entries(real) == row.kernel, "the kernel"
        assert _numbers(real.huge) == row.huge, "the kernel"
        assert _entries(shadow) == row.kernel, "the table, running policy"
        assert _numbers(shadow.huge) == row.huge, "the table, running policy"
        assert _numbers(session.table.slots_of(Policy.PTE_REF)) == row.pte_ref, "pte_ref"
        assert _numbers(session.table.slots_of(Policy.NONE)) >= row.kernel.keys(), "none"
        session.audit()
        assert session.audits.repaired == 0
    finally:
        actor.close()


@pytest.mark.parametrize("row", FORKS, ids=lambda row: row.number)
def test_a_forked_child_has_what_the_kernel_copies(
    row: SemanticsRow, attach: Callable[[int], Session]
) -> None:
    """A reading of the child equals the copy of the parent's shadow, which stays right."""
    actor = Actor()
    try:
        session = attach(actor.pid)
        row.act(actor)
        before = _entries(session.reader.pages(session.target, session.target.vmas()))
        child = actor.do("fork")
        try:
            copied = attach(child)
            assert _entries(_real(copied)) == row.kernel
            assert _entries(copied.table.pages()) == row.kernel
        finally:
            os.kill(child, signal.SIGKILL)
        while session.take():
            pass
        assert session.children == [child]
        assert _entries(session.table.fork().pages()) == row.kernel
        assert _entries(session.table.pages()) == _entries(_real(session)) == before
    finally:
        actor.close()


def test_a_pmd_page_outlives_its_pte_pages_until_munmap(
    attach: Callable[[int], Session],
) -> None:
    """Row 93: touch, purge, move (only the PMD page is left) and unmap a GiB."""
    actor, gib = Actor(), 512 * SLOT
    try:
        session = attach(actor.pid)
        counts = []
        for act in (
            lambda: actor.map(BASE, gib),
            lambda: actor.advise(BASE, gib, mmap.MADV_NOHUGEPAGE),
            lambda: actor.touch(BASE, gib, SLOT),
            lambda: actor.advise(BASE, gib, mmap.MADV_DONTNEED),
            lambda: actor.do("mremap", BASE, gib, gib, _MAYMOVE | _FIXED, BASE + gib),
            lambda: actor.do("munmap", BASE + gib, gib),
        ):
            act()
            while session.take():
                pass
            census = session.reader.census(session.target)
            table = session.table
            assert table.counter(Counter.PMD_PAGES) == census.pmd_pages
            assert len(table.pages().slots) == census.pte_pages
            counts.append((census.pte_pages, census.pmd_pages))
        pte, pmd = counts[0]
        assert counts[2] == (pte + 512, pmd + 1)
        assert counts[3] == counts[4] == (pte, pmd + 1)
        assert counts[5] == (pte, pmd)
    finally:
        actor.close()
