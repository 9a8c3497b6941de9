# SPDX-License-Identifier: GPL-2.0-only
"""Advice on a process of another architecture has its sizes, and what its kernels do."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shadow.advice import Evidence, Finding, advise
from shadow.advice.rules import RULES
from shadow.geometry import ARM64, MODELLED, X86_64, Geometry
from shadow.mappings import MappingUse
from shadow.policy import Policy
from shadow.pt_reclaim import reclaims_since, release_reclaims
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots, with_now

_LARGER = ARM64[2:]
_OF_X86_64 = re.compile(r"\b(2 ?MiB|2M|4 KiB|6\.14|x86)")
_QEMU = "/usr/bin/qemu-system-aarch64"


def _on(geometry: Geometry, found: Evidence) -> Evidence:
    """The same evidence, from a kernel with other page tables."""
    kernel = replace(
        found.snapshot.kernel,
        arch=geometry.arch,
        page_size=geometry.page,
        levels=geometry.levels,
        user_address_bits=geometry.user_address_bits,
    )
    return replace(found, snapshot=replace(found.snapshot, kernel=kernel))


def _guest(policy: Policy = Policy.PT_RECLAIM) -> Evidence:
    found = evidence(policy=policy)
    memory = MappingUse(
        *("memfd", "/memfd:mem (deleted)"),
        mappings=1,
        mapped_kib=2 << 20,
        pte_pages=900.0,
        empty=600.0,
        sparse=0.0,
        entries=9000,
        pmd_pages=0.0,
        pud_pages=0.0,
        thp_deposits=0.0,
        bytes=900 * 4096,
        share=0.9,
    )
    process = replace(found.snapshot.process, exe=_QEMU)
    return replace(found, snapshot=replace(found.snapshot, process=process, mappings=[memory]))


def _all() -> Iterator[Evidence]:
    """Evidence on which many rules have something to say."""
    preloaded = replace(jemalloc(), linked="preloaded: /usr/lib/libjemalloc.so.2")
    for policy in (Policy.NONE, Policy.PT_RECLAIM):
        for allocator in (None, jemalloc(), preloaded, jemalloc(dirty_decay_ms=0)):
            empty = evidence(allocator, pieces(300), policy=policy, known=slots(200, 60, 40))
            yield empty
            yield with_now(empty, sparse=250)
        yield _guest(policy)


def _findings(geometry: Geometry) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for given in _all():
        for rule in RULES:
            finding = rule(_on(geometry, given))
            if finding is not None:
                found.setdefault(finding.rule, []).append(finding)
    return found


@pytest.mark.parametrize("geometry", _LARGER, ids=lambda each: each.name)
def test_no_rule_has_numbers_of_x86_64(geometry: Geometry) -> None:
    found = _findings(geometry)
    assert len(found) > 6
    for findings in found.values():
        for finding in findings:
            plain = finding.as_json()
            del plain["source"]
            assert not _OF_X86_64.findall(json.dumps(plain)), plain


@pytest.mark.parametrize("geometry", _LARGER, ids=lambda each: each.name)
def test_what_covers_only_small_slots_is_not_offered_for_larger_ones(geometry: Geometry) -> None:
    of_x86_64, of_larger = _findings(X86_64), _findings(geometry)
    assert {"other_allocator", "free_page_reporting"} <= of_x86_64.keys()
    assert not {"other_allocator", "free_page_reporting"} & of_larger.keys()
    assert of_x86_64.keys() - of_larger.keys() == {"other_allocator", "free_page_reporting"}


def test_huge_pages_have_the_size_of_a_slot() -> None:
    for geometry in MODELLED:
        (finding, *_) = _findings(geometry)["guest_huge_pages"]
        assert finding.change
        assert f"hugetlbsize={geometry.slot >> 20}M" in " ".join(finding.change.how)


@pytest.mark.parametrize("geometry", MODELLED, ids=lambda each: each.name)
def test_the_first_release_that_frees_is_that_of_the_architecture(geometry: Geometry) -> None:
    (finding, *_) = _findings(geometry)["kernel_frees_none"]
    assert finding.change
    since = "6.14" if geometry.arch == "x86-64" else "7.0"
    assert finding.change.what.startswith(f"Run Linux {since} or later")


def test_releases_by_architecture() -> None:
    assert (reclaims_since("x86-64"), reclaims_since("arm64")) == ((6, 14), (7, 0))
    assert release_reclaims("6.14.0-1-amd64", "x86-64")
    assert not release_reclaims("6.19.14", "arm64")
    assert release_reclaims("7.0", "arm64")
    assert not release_reclaims("", "x86-64")
    assert not release_reclaims("unknown", "x86-64")


def test_what_is_little_is_a_number_of_bytes() -> None:
    """16 empty PTE pages of 64 KiB are as much as 256 of 4 KiB."""
    (pages_of_64_kib,) = (each for each in ARM64 if each.page == 1 << 16)
    history = pieces(20)
    for name, number in (("split_slots", 20), ("huge_pages_blocked", 20)):
        rule = next(function for function in RULES if function.__name__ == name)
        few = evidence(jemalloc(), history, known=slots(number, number, number // 2))
        assert (few.enough(16), _on(pages_of_64_kib, few).enough(16)) == (16, 1)
        assert rule(_on(pages_of_64_kib, few)) is not None
    little = replace(few, slots=slots(0, 3, 3))
    rule = next(function for function in RULES if function.__name__ == "huge_pages_blocked")
    assert rule(little) is None
    assert rule(_on(pages_of_64_kib, little)) is not None


def test_a_saving_is_worth_a_restart_by_its_bytes() -> None:
    (pages_of_64_kib,) = (each for each in ARM64 if each.page == 1 << 16)
    found = evidence(jemalloc(), pieces(5), known=slots(5, 0, 5), policy=Policy.NONE)
    small = {finding.rule for finding in advise(found) if finding.effect}
    large = {finding.rule for finding in advise(_on(pages_of_64_kib, found)) if finding.effect}
    assert not small
    assert large
