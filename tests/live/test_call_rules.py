# SPDX-License-Identifier: GPL-2.0-only
"""The BPF probes turn every call into the events of `shadow.call_rules`."""

from collections.abc import Iterator

import numpy as np
import pytest

from shadow.call_rules import CALLS, CallEvent, advised_vectors, at_entry, at_return
from shadow.events import Kind
from tests.call_steps import AREA, STEPS, VECTORS
from tests.live.actor import Actor
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes

_OF_CALLS = {
    *(rule.kind for rule in CALLS.values()),
    *(rule.entry_kind for rule in CALLS.values()),
    *(Kind.DONTNEED, Kind.FREE, Kind.TRUNCATE, Kind.POPULATE, Kind.DOUBT),
}
_AREA_BYTES = 1 << 30


@pytest.fixture(scope="module")
def probes() -> Iterator[Probes]:
    made = Probes(geometry=kernel_facts().geometry)
    yield made
    made.close()


@pytest.fixture(scope="module")
def actor(probes: Probes) -> Iterator[Actor]:
    made = Actor()
    probes.add(made.pid)
    yield made
    made.close()


def _seen(probes: Probes, actor: Actor, expected: list[CallEvent]) -> list[CallEvent]:
    """Events of calls in the area, and expected events elsewhere.

    The actor's interpreter makes other calls outside the area.
    """
    parts = [probes.read(actor.pid)]
    while len(parts[-1]):
        parts.append(probes.read(actor.pid))
    rows = np.concatenate(parts)
    assert not (rows["kind"] == Kind.LOSS).any()
    events = [
        (Kind(row["kind"]), int(row["address"]), int(row["length"]), int(row["aux"]))
        for row in rows
        if Kind(row["kind"]) in _OF_CALLS
    ]
    return [
        event
        for event in events
        if AREA <= event[1] < AREA + _AREA_BYTES or event in expected or event[0] == Kind.DOUBT
    ]


def test_each_call_becomes_the_events_of_its_rule(probes: Probes, actor: Actor) -> None:
    tried = set()
    for call, arguments in STEPS:
        _seen(probes, actor, [])
        result = actor.do(call, *arguments)
        needed = list(arguments[: len(CALLS[call].arguments)])
        begun = at_entry(call, needed)
        expected = [*([begun] if begun else []), *at_return(call, needed, result)]
        assert _seen(probes, actor, expected) == expected, (call, arguments, result)
        tried.add(call)
    assert tried == set(CALLS)


def test_each_range_of_process_madvise_becomes_an_event(probes: Probes, actor: Actor) -> None:
    for advice, ranges in VECTORS:
        _seen(probes, actor, [])
        result = actor.do("process_madvise", advice, *(part for pair in ranges for part in pair))
        expected = advised_vectors(advice, ranges, result)
        assert _seen(probes, actor, expected) == expected, (advice, ranges, result)
