# SPDX-License-Identifier: GPL-2.0-only
"""The self-test: attached probes must deliver an event of each kind that a child provokes.

A function can exist, accept a probe and never be called, because the compiler inlined it or
the kernel now takes another path (6.18 does not call zap_page_range_single for MADV_DONTNEED).
So the program `tracer.probes.selftest_child` runs after attaching, traced like any other
process. A source whose events do not arrive falls back to its next method.
"""

import json
import logging
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from shadow.events import EventBatch, Kind, kinds_of
from shadow.isolated_python import isolated_python
from tracer.probes.stream import Probes

__all__ = ("Child", "SelfTest", "check", "verify_or_fall_back", "waiting_child")

_PROGRAM = "from tracer.probes.selftest_child.__main__ import main; main()"
_SECONDS = 60.0
_log = logging.getLogger(__name__)

Child = subprocess.Popen[str]
"""The process of the test."""


@dataclass(frozen=True)
class SelfTest:
    """Which sources delivered their test events.

    Attributes:
        seen: sources of which all test events arrived.
        silent: attached sources of which a test event is missing.
        untried: why a source could not be tested on this host, by source.
    """

    seen: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    untried: Mapping[str, str] = field(default_factory=dict)


class _NotCheckedError(Exception):
    """The child failed, or events of it were lost."""


@contextmanager
def waiting_child() -> Iterator[Child]:
    """Start the child, which waits until a test needs it; it can start while probes are loaded."""
    child = subprocess.Popen(
        isolated_python(_PROGRAM, "-S"),  # without `site`, which would import much more
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def _provoke(probes: Probes, waiting: Child | None) -> tuple[EventBatch, str]:
    """The events of the child, and its output."""
    with nullcontext(waiting) if waiting else waiting_child() as child:
        assert child.stdout is not None
        child.stdout.readline()
        probes.add(child.pid)
        try:
            said, wrong = child.communicate("go\n", _SECONDS)
            probes.count_missed()
            parts = [probes.read(child.pid)]
            while len(parts[-1]):
                parts.append(probes.read(child.pid))
            parts.append(probes.unreported_loss(child.pid, 0))
        except subprocess.TimeoutExpired as error:
            raise _NotCheckedError(f"the child did not end within {_SECONDS:.0f} s") from error
        finally:
            probes.remove(child.pid)
    if not said:
        raise _NotCheckedError(wrong.strip().rpartition("\n")[2] or "it said nothing")
    events = np.concatenate(parts)
    if Kind.LOSS in kinds_of(events):
        raise _NotCheckedError("events were lost")
    return events, said


def _check(probes: Probes, waiting: Child | None) -> SelfTest:
    events, said = _provoke(probes, waiting)
    report = json.loads(said)
    came = {row[:known] for row in events[["kind", "address", "aux"]].tolist() for known in (2, 3)}
    seen = {
        source
        for source, wanted in report["seen"].items()
        if all((Kind[kind], *known) in came for kind, *known in wanted)
    }
    attached = {
        name for name, attachment in probes.attachments.by_source.items() if attachment.method
    }
    return SelfTest(
        seen=frozenset(seen & attached),
        silent=frozenset(attached & set(report["seen"]) - seen),
        untried={name: why for name, why in report["failed"].items() if name in attached},
    )


def check(probes: Probes, waiting: Child | None = None) -> SelfTest:
    """Let a child provoke an event of each source, and check which events arrive.

    If the test itself fails, this logs a warning with the reason and regards no source as silent.

    Args:
        probes: attached probes.
        waiting: a `waiting_child`, which this uses up; None: start one.
    """
    try:
        return _check(probes, waiting)
    except _NotCheckedError as error:
        _log.warning("ptescope: The self-test of the probes failed: %s", error)
        return SelfTest()


def verify_or_fall_back(probes: Probes, waiting: Child | None = None) -> SelfTest:
    """Test the sources, and replace the methods of silent ones until none is silent.

    Args:
        probes: attached probes.
        waiting: see `check`.

    Raises:
        UnsupportedHostError: a required source is silent with every method.
    """
    while True:
        outcome = check(probes, waiting)
        waiting = None
        if not outcome.silent:
            return outcome
        for name in sorted(outcome.silent):
            probes.attachments.next_way(name, "it is attached, but reports no events")
