# SPDX-License-Identifier: GPL-2.0-only
"""Which processes are not followed, why, and until when."""

from tracer.daemon.skipped import Refusals

_ONE, _OTHER = (7, 100), (8, 100)


def test_an_unreadable_process_is_retried_after_a_minute() -> None:
    refusals = Refusals(1 << 30)
    refusals.refuse(_ONE, "it was in exec", 0.0)
    assert refusals.now(59.0) == {_ONE}
    assert refusals.now(61.0) == set()
    assert refusals.notes() == [
        "1 process cannot be followed, only counted; of one of them: it was in exec"
    ]
    refusals.accept(_ONE)
    assert refusals.notes() == []


def test_processes_that_are_too_large_are_listed_until_they_end() -> None:
    refusals = Refusals(1 << 30)
    refusals.fits(_ONE, fits=False)
    refusals.let_go(_OTHER, 0.0)
    (note,) = refusals.notes()
    assert note.startswith("2 processes are only counted")
    assert "1024 MiB" in note
    refusals.fits(_ONE, fits=True)
    assert refusals.notes()[0].startswith("1 process is")
    refusals.keep({_ONE})
    assert refusals.notes() == []
