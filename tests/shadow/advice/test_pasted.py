# SPDX-License-Identifier: GPL-2.0-only
"""Commands to paste into a shell contain no text from a process."""

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.advice import Evidence, Finding, advise
from shadow.advice.rules.jemalloc_options import sound
from shadow.policy import Policy
from shadow.report.advice import render_advice
from shadow.snapshot import Allocator, AllocatorOption, Snapshot
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots

_INJECTED = "dirty_decay_ms:0,x:$(touch INJ);id #"
_OTHERS = ("gperftools", "mimalloc", "Go", "tcmalloc", "glibc")
_WORDS = (
    "MALLOC_CONF=", "TCMALLOC_AGGRESSIVE_DECOMMIT=f", "MIMALLOC_", "LD_PRELOAD=libmimalloc.so.2",
    "GODEBUG=madvdontneed=1", "madvise((void *)0x", "/* and ", "MallocExtension::", "zgrep ",
)  # fmt: skip


def _set_to(conf: str, variable: str = "MALLOC_CONF", **options: object) -> Allocator:
    return replace(
        jemalloc(**({"dirty_decay_ms": 0} | options)),
        settings={variable: conf},
        variables=[variable],
    )


def _commands(found: list[Finding]) -> list[str]:
    return [line for finding in found if finding.change for line in finding.change.how]


def _evidences(allocator: Allocator | None) -> list[Evidence]:
    """Cases in which each rule gives a finding at least once."""
    return [
        evidence(allocator, history, policy=policy, known=slots(300, 90, 50), forks=3)
        for policy in (Policy.PT_RECLAIM, Policy.NONE)
        for history in (pieces(400), pieces(400, kind="free"))
    ]


def test_a_setting_from_the_environment_runs_nothing() -> None:
    given = evidence(_set_to(_INJECTED), pieces(20))
    found = [f for f in advise(given) if f.rule in ("immediate_purge", "longer_decay")]
    (line,) = _commands(found)
    assert line == "MALLOC_CONF=dirty_decay_ms:10000,background_thread:true"
    assert any(
        "has 1 settings with names that ptescope does not know" in risk for risk in found[0].risks
    )
    text = render_advice(given, advise(given), detail=True)
    assert "INJ" not in text.replace(f"MALLOC_CONF='{_INJECTED}'", "")


@pytest.mark.parametrize(
    ("pair", "known"),
    [
        ("narenas:4", True),
        ("narenas:default", True),
        ("dirty_decay_ms:-1", True),
        ("percpu_arena:phycpu", True),
        ("slab_sizes:1-4096:17|8192-16384:2", True),
        ("prof_prefix:/var/tmp/jeprof", True),
        ("narenas:$(id)", False),
        ("narenas:4 ", False),
        ("narenas:\u0664", False),
        ("narenas:4\n", False),
        ("prof_prefix:/tmp/x;id", False),
        ("junk", False),
        ("x:1", False),
        ("", False),
    ],
)
def test_options_are_known_with_their_values(pair: str, known: bool) -> None:
    assert sound(pair) is known


@given(conf=st.text(max_size=80), variable=st.text(max_size=40))
def test_one_word_is_set_whatever_the_environment_holds(conf: str, variable: str) -> None:
    given = evidence(_set_to(f"narenas:2,{conf}", variable), pieces(20))
    for line in _commands([f for f in advise(given) if f.rule in ("immediate_purge", "retain")]):
        (word,) = shlex.split(line)
        name, _, value = word.partition("=")
        assert name.isidentifier()
        assert name.endswith("MALLOC_CONF")
        assert all(sound(pair) for pair in value.split(","))


def test_a_variable_that_an_image_names_is_used_only_if_it_is_one() -> None:
    for named, used in (("_RJEM_MALLOC_CONF", "_RJEM_MALLOC_CONF"), ("x;id;MALLOC_CONF", "")):
        given = evidence(_set_to("narenas:2", named), pieces(20))
        line = _commands([f for f in advise(given) if f.rule == "immediate_purge"])[0]
        assert line.startswith((used or "MALLOC_CONF") + "=")


@pytest.mark.parametrize("name", ["jemalloc", *_OTHERS])
def test_every_command_of_every_rule_is_ptescopes_own(name: str) -> None:
    """All text that a process or a trace controls is hostile; no command shows any of it."""
    evil = "$(touch INJ);`id`|x"
    allocator = Allocator(
        name=name,
        version=evil,
        linked=f"preloaded: {evil}",
        settings={evil: evil, "MALLOC_CONF": evil, "GODEBUG": evil},
        serves="malloc",
        variables=["MALLOC_CONF", "MIMALLOC_PURGE_DECOMMITS", evil],
        options={
            **jemalloc(dirty_decay_ms=0).options,
            "aggressive_decommit": AllocatorOption("true", evil),
            evil: AllocatorOption(evil, evil),
        },
    )
    said = 0
    for known in _evidences(allocator):
        hostile = replace(known, snapshot=_renamed(known, evil))
        found = advise(hostile)
        for line in _commands(found):
            assert "INJ" not in line
            assert line.startswith(_WORDS)
            said += 1
        for finding in found:
            assert "INJ" not in finding.verify + (finding.change.what if finding.change else "")
    assert said


def _renamed(known: Evidence, evil: str) -> Snapshot:
    process = replace(known.snapshot.process, comm=evil, exe=evil)
    return replace(known.snapshot, process=process)


@pytest.mark.parametrize("value", ["9" * 11, "9" * 30, "1" * 5000, "-1", "x", "1_0", "\u0661"])
@pytest.mark.parametrize("option", ["dirty_decay_ms", "oversize_threshold", "muzzy_decay_ms"])
def test_values_of_options_are_numbers_in_range_or_not_known(option: str, value: str) -> None:
    allocator = jemalloc(dirty_decay_ms=0)
    options = allocator.options | {option: AllocatorOption(value, "memory")}
    for known in _evidences(replace(allocator, options=options)):
        assert all(len(line) < 100 for line in _commands(advise(known)))
