# SPDX-License-Identifier: GPL-2.0-only
"""Each rule gives a finding where it applies, and only there."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as whatever
from hypothesis import strategies as st

from shadow.advice import Evidence, Finding, Slots, advise, limits
from shadow.advice.rules import RULES
from shadow.events import Kind
from shadow.policy import Policy
from shadow.snapshot import Allocator, AllocatorOption
from shadow.whatif import Future, share_of_close_purges
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots, with_now
from tests.shadow.build import BASE, PAGE, SLOT, EventScript

_MANY = 1000


def _by(rule: str, given: Evidence) -> Finding | None:
    chosen = next(function for function in RULES if function.__name__ == rule)
    return chosen(given)


def _said(rule: str, given: Evidence) -> Finding:
    found = _by(rule, given)
    assert found is not None, f"{rule} says nothing"
    assert found.rule == rule
    return found


def _gperftools(aggressive: bool) -> Allocator:
    option = AllocatorOption(str(aggressive).lower(), "TCMALLOC_AGGRESSIVE_DECOMMIT")
    return Allocator("gperftools", "2.10", serves="malloc", options={"aggressive_decommit": option})


@pytest.mark.parametrize(
    ("release", "concerned"),
    [
        ("6.18.44", False),
        ("7.0.0", True),
        ("7.1.8-2-amd64", True),
        ("7.1.9", False),
        ("7.2", False),
    ],
)
def test_kernel_flushes_wrong(release: str, concerned: bool) -> None:
    found = _by("kernel_flushes_wrong", evidence(release=release))
    assert (found is not None) == concerned
    if found:
        assert found.urgent


def test_kernel_frees_none() -> None:
    history = pieces(4)
    for slot in range(BASE, BASE + 4 * SLOT, SLOT):
        history.touch(slot, PAGE).dontneed(slot, SLOT)
    found = _said("kernel_frees_none", evidence(history=history, policy=Policy.NONE))
    assert found.numbers["freed_by_pt_reclaim"] == 4
    assert found.effect is not None
    assert found.effect.least <= 4 <= found.effect.most
    assert _by("kernel_frees_none", evidence(history=history)) is None


def test_immediate_purge_is_predicted_from_the_history() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0), pieces(20))
    assert given.snapshot.now.empty == 20
    found = _said("immediate_purge", given)
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (11, 22)
    assert found.change is not None
    assert found.change.how == ["MALLOC_CONF=dirty_decay_ms:10000,background_thread:true"]


def test_small_frees_over_a_while_are_purged_in_steps_before_their_time_is_over() -> None:
    """Single pages, in an order that leaves no neighbours until the end, for six seconds."""
    number = 40
    history = EventScript().map(BASE, number * SLOT).touch(BASE, number * SLOT, PAGE)
    for odd in (0, PAGE):
        for page in range(BASE + odd, BASE + number * SLOT, 2 * PAGE):
            history.dontneed(page, PAGE)
    given = evidence(jemalloc(dirty_decay_ms=0), history)
    assert given.future is not None
    events = given.future.events
    purges = np.flatnonzero(events["kind"] == Kind.DONTNEED)
    assert share_of_close_purges(events) > 0.99
    each = 6 * 10**9 // len(purges)
    events["time"][purges] = events["time"].max() + np.arange(len(purges)) * each
    found = _said("immediate_purge", given).effect
    assert found is not None
    assert number // 4 < found.most < 0.9 * number
    assert share_of_close_purges(events) == 0


def test_a_window_that_begins_too_late_predicts_nothing_and_says_so() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0), pieces(40))
    assert given.future is not None
    *_, last = np.split(given.future.events, [-1])
    seed = copy.deepcopy(given.future.seed)
    seed.feed(given.future.events)
    late = replace(given, future=Future(seed, last))
    assert late.late
    assert _said("immediate_purge", late).effect is None
    assert any("start ptescope before the load" in limit for limit in limits(late))
    assert not given.late


def test_a_prediction_is_at_most_the_number_of_empty_pages() -> None:
    given = evidence(history=pieces(300))
    found = next(finding for finding in advise(given) if finding.rule == "small_purges")
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (165, 300)


def test_an_advised_setting_keeps_the_other_settings() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0, narenas=4), pieces(4))
    change = _said("immediate_purge", given).change
    assert change is not None
    assert change.how == ["MALLOC_CONF=narenas:4,dirty_decay_ms:10000,background_thread:true"]


def test_no_background_thread_is_advised_where_one_runs() -> None:
    allocator = jemalloc(dirty_decay_ms=0)
    running = {"background_thread": AllocatorOption("true", "its threads run")}
    allocator = replace(allocator, options=allocator.options | running)
    found = _said("immediate_purge", evidence(allocator, pieces(20)))
    assert found.change is not None
    assert found.change.how == ["MALLOC_CONF=dirty_decay_ms:10000"]
    assert not any("background_thread" in risk for risk in found.risks)


def test_the_decay_of_new_arenas_overrides_that_of_the_start() -> None:
    live = {"arenas.dirty_decay_ms": AllocatorOption("10000", "memory")}
    allocator = jemalloc(dirty_decay_ms=0)
    allocator = replace(allocator, options=allocator.options | live)
    assert _by("immediate_purge", evidence(allocator, pieces(20))) is None


@pytest.mark.parametrize("rule", ["longer_decay", "oversize"])
def test_more_waiting_is_advised_where_the_history_shows_a_use(rule: str) -> None:
    found = _said(rule, evidence(jemalloc(), pieces(20)))
    assert found.effect is not None
    assert found.effect.most == 22
    assert _by(rule, evidence(jemalloc(), pieces(0))) is None
    assert _by(rule, evidence(jemalloc(), pieces(20), policy=Policy.NONE)) is None


def test_oversize_is_silent_where_it_is_off() -> None:
    assert _by("oversize", evidence(jemalloc(oversize_threshold=0), pieces(20))) is None


def test_retain_and_when_not() -> None:
    given = evidence(jemalloc(), pieces(20), known=slots(whole=20))
    found = _said("retain", given)
    assert found.effect is not None
    assert found.change is not None
    assert found.change.how == ["MALLOC_CONF=retain:false"]
    assert _by("retain", evidence(jemalloc(dirty_decay_ms=0), pieces(20))) is None
    idle = with_now(evidence(jemalloc()), empty=20, pte_pages=40)
    assert _said("retain", idle).effect is None  # nothing happened, so nothing is predicted
    few = replace(given, host=replace(given.host, max_map_count=1))
    assert _said("retain", few).change is None
    assert _by("retain", evidence(jemalloc(retain="false"), pieces(20))) is None


def test_lazy_free() -> None:
    history = pieces(20, kind="free")
    found = _said("lazy_free", evidence(jemalloc(muzzy_decay_ms=-1), history))
    assert found.numbers["lazyfree_only"] == 20
    assert found.change is not None
    assert found.change.how == ["MALLOC_CONF=muzzy_decay_ms:0"]
    assert _by("lazy_free", evidence(jemalloc(), pieces(20))) is None


def test_aggressive_decommit() -> None:
    found = _said("aggressive_decommit", evidence(_gperftools(True), pieces(20)))
    assert found.effect is not None
    assert found.effect.most == 22
    assert _by("aggressive_decommit", evidence(_gperftools(False), pieces(20))) is None


def test_other_allocator_only_where_malloc_can_be_replaced() -> None:
    linked = _said("other_allocator", evidence(jemalloc(), pieces(300)))
    assert linked.effect is not None
    assert linked.change is not None
    assert not any("LD_PRELOAD" in line for line in linked.change.how)
    preloaded = replace(jemalloc(), linked="preloaded: /usr/lib/libjemalloc.so.2")
    change = _said("other_allocator", evidence(preloaded, pieces(300))).change
    assert change is not None
    assert change.how[0] == "LD_PRELOAD=libmimalloc.so.2"
    prefixed = replace(jemalloc(), serves="calls of _rjem_*")
    assert _by("other_allocator", evidence(prefixed, pieces(300))) is None
    assert _by("other_allocator", evidence(preloaded, pieces(200))) is None  # not for 800 KiB


def test_own_call_names_the_slots_and_the_race() -> None:
    found = _said("own_call", evidence(history=pieces(20), known=slots(whole=20)))
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (20, 20)
    assert len(found.slots) == 20
    assert any("RACE" in risk for risk in found.risks)
    kept = evidence(history=pieces(20), known=slots(whole=20), policy=Policy.NONE)
    assert _by("own_call", kept) is None


def test_small_purges_applies_to_allocators_without_a_specific_rule() -> None:
    found = _said("small_purges", evidence(history=pieces(20)))
    assert found.numbers["covering"] == 0
    assert _by("small_purges", evidence(jemalloc(), pieces(20))) is None


def test_split_slots() -> None:
    found = _said("split_slots", evidence(known=slots(split=100)))
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (0, 100)
    assert _by("split_slots", evidence(known=slots(split=2))) is None


def test_sparse() -> None:
    occupancy = [0, _MANY, *[0] * 511]
    given = with_now(evidence(), pte_pages=_MANY, sparse=_MANY, occupancy=occupancy)
    assert _said("sparse", given).numbers["needed"] == 2
    assert _by("sparse", with_now(given, sparse=10)) is None


def test_empty_on_fork() -> None:
    given = with_now(evidence(forks=3), empty=_MANY, pte_pages=_MANY)
    assert _said("empty_on_fork", given).numbers["bytes_each"] == _MANY * 4096
    assert _by("empty_on_fork", with_now(evidence(), empty=_MANY, pte_pages=_MANY)) is None


def test_huge_pages_blocked() -> None:
    assert _said("huge_pages_blocked", evidence(known=slots(whole=50, huge=50)))
    assert _by("huge_pages_blocked", evidence(known=slots(whole=50))) is None


def test_without_effect() -> None:
    given = with_now(evidence(jemalloc(narenas=1)), empty=10)
    assert "narenas:1" in _said("without_effect", given).title
    assert _by("without_effect", with_now(evidence(jemalloc()), empty=10)) is None


def test_nothing_to_do_is_said_first_and_plainly() -> None:
    given = with_now(evidence(), empty=20, pte_pages=10_000)
    assert advise(given)[0].rule == "nothing_to_do"
    assert not any(
        finding.rule == "nothing_to_do" for finding in advise(with_now(given, empty=5000))
    )


def test_there_is_something_to_do_where_much_can_be_saved_or_is_urgent() -> None:
    few = with_now(evidence(), empty=20, pte_pages=10_000)
    occupancy = [0, _MANY, *[0] * 511]
    scattered = with_now(few, pte_pages=_MANY, sparse=_MANY, occupancy=occupancy)
    assert [finding.rule for finding in advise(scattered)] == ["sparse"]
    broken = with_now(evidence(release="7.0.1"), empty=20, pte_pages=10_000)
    assert advise(broken)[0].rule == "kernel_flushes_wrong"


def test_findings_are_ranked_by_what_they_save_and_urgent_ones_first() -> None:
    given = evidence(
        jemalloc(dirty_decay_ms=0), pieces(600), known=slots(whole=600), release="7.0.1"
    )
    found = advise(given)
    assert found[0].rule == "kernel_flushes_wrong"
    saves = [(f.effect.least, f.effect.most) for f in found[1:] if f.effect]
    assert saves == sorted(saves, reverse=True)
    assert len(saves) > 2


def test_an_incomplete_history_predicts_nothing() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0), pieces(20))
    assert given.future is not None
    cut = replace(given, future=replace(given.future, missing="lost"))
    assert _said("immediate_purge", cut).effect is None
    astray = with_now(given, pte_pages=40)  # more PTE pages than the history reproduces
    assert _said("immediate_purge", astray).effect is None


def test_every_finding_has_what_a_reader_needs() -> None:
    given = evidence(jemalloc(dirty_decay_ms=0), pieces(600), known=slots(whole=600))
    for finding in advise(given):
        assert finding.title
        assert finding.why
        assert finding.source
        assert finding.change is None or (finding.change.what and finding.verify)
        plain = finding.as_json()
        if finding.effect:
            assert 0 <= finding.effect.least <= finding.effect.most
            assert plain["effect"]["bytes"] == [4096 * n for n in plain["effect"]["pte_pages"]]


_ALLOCATORS = st.sampled_from(
    [
        None,
        jemalloc(),
        jemalloc(dirty_decay_ms=0, muzzy_decay_ms=-1),
        jemalloc(dirty_decay_ms="nonsense", oversize_threshold="x"),
        replace(jemalloc(), options={}, variables=[], version=None),
        _gperftools(True),
        Allocator("mimalloc"),
        Allocator("Go", serves="calls of runtime.*"),
        Allocator("glibc", serves="malloc"),
    ]
)


@whatever(
    allocator=_ALLOCATORS,
    policy=st.sampled_from(Policy),
    release=st.text(max_size=8),
    number=st.integers(0, 20),
    kind=st.sampled_from(["dontneed", "free"]),
    known=st.sampled_from([None, slots(), slots(whole=20, huge=20), slots(split=300)]),
    kept=st.booleans(),
    now=st.fixed_dictionaries(
        {}, optional={"pte_pages": st.integers(0, 99), "empty": st.integers(0, 99)}
    ),
)
def test_rules_accept_any_evidence_and_predict_narrow_ranges(
    allocator: Allocator | None,
    policy: Policy,
    release: str,
    number: int,
    kind: str,
    known: Slots | None,
    kept: bool,
    now: dict[str, int],
) -> None:
    history = pieces(number, kind=kind)
    given = evidence(allocator, history, policy=policy, release=release, known=known, forks=2)
    given = with_now(given if kept else replace(given, future=None), **now)
    for finding in advise(given):
        assert finding.title
        effect = finding.effect
        if effect and effect.least:
            assert effect.least <= effect.most <= 2 * effect.least
