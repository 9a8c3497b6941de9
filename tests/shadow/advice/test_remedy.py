# SPDX-License-Identifier: GPL-2.0-only
"""The rule that offers the remedy for jemalloc: where it fits, and how it is applied there."""

from dataclasses import replace

import pytest

from shadow.advice import Evidence
from shadow.advice.rules.remedy import remedy
from shadow.policy import Policy
from shadow.remedy import REMEDY_STATES, Remedy
from shadow.snapshot import Allocator
from tests.shadow.advice.build import evidence, jemalloc, slots, with_now

_EMPTY = 100


def _given(allocator: Allocator | None = None, **others: object) -> Evidence:
    known = {"known": slots(whole=_EMPTY, split=5)} | others
    found = evidence(allocator or jemalloc(), **known)  # type: ignore[arg-type]
    return with_now(found, pte_pages=300)


def _how(given: Evidence) -> list[str]:
    found = remedy(given)
    assert found is not None
    assert found.change is not None
    return found.change.how


def test_the_saving_allows_for_a_tenth_of_all_tables_in_another_run() -> None:
    found = remedy(_given())
    assert found is not None
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (65, 130)
    assert found.numbers["whole"] == _EMPTY
    many = remedy(with_now(_given(), pte_pages=400))
    assert many is not None
    assert many.effect is not None
    assert (many.effect.least, many.effect.most) == (0, 140)


def test_memory_of_another_allocator_makes_it_a_bound() -> None:
    given = _given()
    snapshot, glibc = given.snapshot, Allocator("glibc", serves="not malloc")
    other = replace(glibc, name="mimalloc", serves="calls of mi_*")
    for beside, least in (([glibc], 65), ([glibc, other], 0)):
        process = replace(snapshot.process, other_allocators=beside)
        found = remedy(replace(given, snapshot=replace(snapshot, process=process)))
        assert found is not None
        assert found.effect is not None
        assert (found.effect.least, found.effect.most) == (least, 130)


@pytest.mark.parametrize(
    ("linked", "setting"),
    [
        ("shared: /usr/lib/libjemalloc.so.2", "LD_PRELOAD=libptescope-remedy.so"),
        ("preloaded: /usr/lib/$(x)", "LD_PRELOAD=libptescope-remedy.so:libjemalloc.so.2"),
    ],
)
def test_it_is_preloaded_before_a_preloaded_jemalloc(linked: str, setting: str) -> None:
    assert _how(_given(replace(jemalloc(), linked=linked))) == [
        "make -C tools/remedy install",
        setting,
    ]


def test_a_prefixed_jemalloc_takes_the_form_to_link() -> None:
    inside = replace(jemalloc(), serves="calls of _rjem_*", linked="inside: /x/polars.so")
    assert _how(_given(inside)) == ["make -C tools/remedy libptescope-remedy.a PREFIX=_rjem_"]


def test_a_prefix_from_the_image_is_not_pasted_if_it_is_none() -> None:
    odd = replace(jemalloc(), serves="calls of $(reboot)*")
    assert not any("reboot" in line for line in _how(_given(odd)))


def test_on_a_kernel_that_frees_nothing_it_maps_again_and_promises_nothing() -> None:
    given = _given(policy=Policy.NONE)
    assert _how(given)[-1] == "PTESCOPE_REMEDY=remap"
    found = remedy(given)
    assert found is not None
    assert found.effect is not None
    assert found.effect.least == 0
    assert any("mapped again" in risk for risk in found.risks)


@pytest.mark.parametrize(
    "given",
    [
        _given(jemalloc(retain="false")),
        _given(jemalloc(hpa="true")),
        _given(jemalloc(dirty_decay_ms=-1)),
        _given(jemalloc(san_guard_large=64)),
        _given(replace(jemalloc(), version="3.6.0")),
        _given(replace(jemalloc(), name="gperftools")),
        _given(release="7.1.3"),
        _given(known=None),
        _given(known=slots(whole=3)),
    ],
)
def test_it_is_silent_where_it_does_not_fit(given: Evidence) -> None:
    assert remedy(given) is None


@pytest.mark.parametrize("state", REMEDY_STATES)
def test_it_is_not_offered_again(state: str) -> None:
    given = _given()
    process = replace(given.snapshot.process, remedy=Remedy(state, *[0] * 8))
    assert remedy(replace(given, snapshot=replace(given.snapshot, process=process))) is None
