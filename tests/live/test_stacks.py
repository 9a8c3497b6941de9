# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of a program that was compiled without frame pointers and whose functions are known."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shadow.stacks import StackReport
from tests.live.attached import watching
from tests.live.stacks import (
    KnownProgram,
    emptied_in,
    known_program,
    made_in,
    report,
)
from tracer.follow.session import Session

_RATE = 10_000


@contextmanager
def _followed(
    program: Path | None = None, rate: int = _RATE
) -> Iterator[tuple[KnownProgram, Session]]:
    with (
        known_program(program) as known,
        watching(stack_rate=rate) as attach,
    ):
        yield known, attach(known.pid)


def _stacks_of(session: Session) -> StackReport:
    session.stop()
    return report(session.snapshot())


def test_each_empty_pte_page_names_the_code_that_made_and_emptied_it() -> None:
    with _followed() as (program, session):
        for step in ("fill", "purge", "cut", "move"):
            program.step(step)
            session.pump()
        found = _stacks_of(session)
    emptied, made = emptied_in(found), made_in(found)
    thread = ("named",)
    assert emptied["purge", ("purge_run", "purge_three", "purge", *thread)] == 3
    assert emptied["purge", ("purge_run", "purge_five", "purge", *thread)] == 5
    assert emptied["cut", ("cut_mapping", "cut", *thread)] == 4
    assert emptied["move", ("move_page", "move", *thread)] == 1
    assert made["fill", ("touch_slot", "fill_some", "fill_low", "fill", *thread)] == 13
    assert found.totals.taken == found.totals.seen
    assert found.totals.lost == found.totals.unread == 0
    assert found.totals.complete == found.totals.unwound == found.totals.taken
