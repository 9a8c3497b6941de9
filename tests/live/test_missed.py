# SPDX-License-Identifier: GPL-2.0-only
"""Probes that the kernel skips are counted, reported, and made good by a reading."""

import pytest

from tests.live.actor import SLOT, Actor
from tests.live.attached import attached
from tests.live.semantics_rows import BASE
from tracer.bpf.program import BpfProgram


def test_skipped_probes_lead_to_a_reading_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of one call are taken away, as if the kernel had skipped its probes."""
    actor = Actor()
    try:
        actor.map(BASE, 4 * SLOT)
        actor.touch(BASE, 4 * SLOT)
        with attached(actor.pid) as session:
            session.audit()
            before = session.audits
            assert not session.snapshot().notes
            actor.do("munmap", BASE, 4 * SLOT)
            session._probes.read(actor.pid)
            monkeypatch.setattr(BpfProgram, "missed_runs", lambda _: 3)
            session.audit()
            assert BASE not in session.table.pages().entries_by_slot()
            assert session.audits.vmas_diff == before.vmas_diff
            monkeypatch.setattr(BpfProgram, "missed_runs", lambda _: 5)
            monkeypatch.setattr(session._probes, "_next_count", 0.0)
            session.pump()
            (note,) = session.snapshot().notes
            assert "skipped probes 5 times" in note
            assert session.snapshot().window.lost == 0
    finally:
        actor.close()


def test_nothing_is_skipped_where_the_kernel_does_not_preempt_probes() -> None:
    actor = Actor()
    try:
        with attached(actor.pid) as session:
            actor.map(BASE, 4 * SLOT)
            for _ in range(20):
                actor.touch(BASE, 4 * SLOT)
                actor.advise(BASE, 4 * SLOT, 4)
            session._probes.count_missed()
            assert session._probes.missed == 0
    finally:
        actor.close()
