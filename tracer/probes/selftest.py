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
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shadow.events import EventBatch, Kind, kinds_of
from tracer.probes.stream import Probes

__all__ = ("SelfTest", "check", "verify_or_fall_back")

_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from tracer.probes.selftest_child.__main__ import main; main()"
)
"""Run without `site`, which would import much more."""
_SECONDS = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelfTest:
    """What was seen of one thing of each kind.

    Attributes:
        seen: sources whose events all came.
        silent: sources that are attached and of which something did not come.
        untried: why a source could not be provoked here, by source.
    """

    seen: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    untried: Mapping[str, str] = field(default_factory=dict)


class _NotCheckedError(Exception):
    """The child could not do its work, or not all that it did reached the stream."""


@contextmanager
def _child() -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM],
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


def _provoke(probes: Probes) -> tuple[EventBatch, str]:
    """The events of the child, and what it wrote."""
    with _child() as child:
        assert child.stdout is not None
        child.stdout.readline()
        probes.add(child.pid)
        try:
            said, wrong = child.communicate("go\n", _SECONDS)
            parts = [probes.read(child.pid)]
            while len(parts[-1]):
                parts.append(probes.read(child.pid))
            parts.append(probes.untold_loss(child.pid, 0))
        except subprocess.TimeoutExpired as error:
            raise _NotCheckedError(f"no end after {_SECONDS:.0f} s") from error
        finally:
            probes.remove(child.pid)
    if not said:
        raise _NotCheckedError(wrong.strip().rpartition("\n")[2] or "it said nothing")
    events = np.concatenate(parts)
    if Kind.LOSS in kinds_of(events):
        raise _NotCheckedError("the ring is too small, events were lost")
    return events, said


def _check(probes: Probes) -> SelfTest:
    events, said = _provoke(probes)
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


def check(probes: Probes) -> SelfTest:
    """Provoke an event of each kind in a child and look which came.

    Where that could not be done a warning says why, and nothing is taken for silent.
    """
    try:
        return _check(probes)
    except _NotCheckedError as error:
        _log.warning("ptescope: the probes could not be checked: %s", error)
        return SelfTest()


def verify_or_fall_back(probes: Probes) -> SelfTest:
    """Check, and take what stays silent in the next way, until nothing does.

    Raises:
        UnsupportedHostError: a source that is needed stays silent in every way.
    """
    while True:
        outcome = check(probes)
        if not outcome.silent:
            return outcome
        for name in sorted(outcome.silent):
            probes.attachments.next_way(name, "attached, but silent")
