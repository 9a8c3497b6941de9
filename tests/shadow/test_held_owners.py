# SPDX-License-Identifier: GPL-2.0-only
"""Owners of page tables in stored traces of real programs, on any machine.

tests/live/test_mappings.py records the traces and compares the same numbers with those of the
kernel.
"""

from pathlib import Path

import pytest

from shadow.advice import Finding, advise, judge
from shadow.advice.collect import evidence_of_trace
from shadow.advice.family import JudgedProcess, advise_family
from shadow.family import family_of
from shadow.mappings import MappingUse
from shadow.replay import Replay, open_trace
from shadow.snapshot import Snapshot

HELD = Path(__file__).with_name("owners")
_PROGRAMS = ("redis", "postgres", "memfd", "asan", "prefork")


def _snapshots(name: str) -> list[Snapshot]:
    with open_trace(str(HELD / f"{name}.arrows")) as reader:
        replay = Replay(reader)
        replay.run()
    assert replay.damage is None
    return replay.snapshots()


def _uses(snapshot: Snapshot) -> dict[str | None, MappingUse]:
    assert snapshot.mappings
    return {use.name: use for use in snapshot.mappings}


@pytest.mark.parametrize("name", _PROGRAMS)
def test_the_sum_equals_vm_pte(name: str) -> None:
    assert (HELD / f"{name}.arrows").stat().st_size < 200_000
    for snapshot in _snapshots(name):
        uses, now = snapshot.mappings, snapshot.now
        assert uses
        assert snapshot.mappings_named
        assert sum(use.bytes for use in uses) == 1024 * (now.vm_pte_kib or 0)
        assert sum(use.pte_pages for use in uses) == now.pte_pages
        assert sum(use.empty for use in uses) == now.empty
        assert sum(use.entries for use in uses) == now.refs


def test_redis_pays_for_its_memory() -> None:
    (snapshot,) = _snapshots("redis")
    assert snapshot.mappings
    assert (snapshot.mappings[0].kind, snapshot.mappings[0].share > 0.4) == ("anonymous", True)
    assert any(use.kind == "file" and "redis" in (use.name or "") for use in snapshot.mappings)


def test_backends_of_postgres_share_their_buffers() -> None:
    family = family_of("name", "postgres", _snapshots("postgres"))
    shared = next(each for each in family.common if each.kind == "shared_anonymous")
    assert shared.processes == len(family.pids) == 7
    assert 64 << 10 <= shared.common_kib < 160 << 10


def test_a_memfd_has_its_name() -> None:
    (snapshot,) = _snapshots("memfd")
    cache = _uses(snapshot)["/memfd:cache (deleted)"]
    assert (cache.kind, cache.entries) == ("memfd", 48 * 256 + 1)
    assert _uses(snapshot)["/memfd:index (deleted)"].entries == 32


def test_asan_pays_for_shadow_and_upper_levels() -> None:
    (snapshot,) = _snapshots("asan")
    uses = _uses(snapshot)
    assert uses["ASan shadow"].kind == "sanitizer"
    assert uses["ASan shadow"].share + uses["ASan heap"].share > 0.5
    assert uses["ASan heap"].pmd_pages + uses["ASan shadow"].pmd_pages >= 16


def test_prefork_workers_have_what_they_share_in_common() -> None:
    snapshots = _snapshots("prefork")
    family = family_of("name", "prefork", snapshots)
    shared = next(each for each in family.common if each.kind == "shared_anonymous")
    assert (shared.processes, shared.common_kib) == (7, 64 << 10)
    assert 32 <= shared.least <= shared.most <= 33
    assert family.empty == sum(snapshot.now.empty for snapshot in snapshots) >= 6 * 12


def _advised(name: str) -> dict[str, Finding]:
    """Advice by rule; of several processes, on all as one."""
    with open_trace(str(HELD / f"{name}.arrows")) as reader:
        found, damage = evidence_of_trace(reader)
        evidence = list(found)
    assert damage is None
    if len(evidence) == 1:
        findings = advise(evidence[0])
    else:
        findings = advise_family(
            name, [JudgedProcess(one, judge(one)) for one in evidence]
        ).findings
    assert len({finding.rule for finding in findings}) == len(findings)
    return {finding.rule: finding for finding in findings}


def test_advice_on_backends_of_postgres_names_its_settings() -> None:
    found = _advised("postgres")
    memory = found["shared_memory"]
    family = family_of("name", "postgres", _snapshots("postgres"))
    (shared,) = (use for use in family.mappings if use.kind == "shared_anonymous")
    assert memory.change
    assert "huge_pages = on" in memory.change.how
    assert memory.effect
    assert (shared.pte_pages - 2 * 7) / 1.1 - 7 <= memory.effect.least
    assert memory.effect.least <= shared.pte_pages <= memory.effect.most
    assert memory.effect.most <= (shared.pte_pages + 2 * 7) * 1.1 + 7
    fewer = found["many_processes"]
    assert fewer.change
    assert "max_connections = NUMBER" in fewer.change.how
    assert fewer.effect
    three_of_seven = 3 / 7 * int(fewer.numbers["pte_pages"])
    assert fewer.effect.least < three_of_seven < fewer.effect.most < 1.2 * three_of_seven
    assert "nothing_to_do" not in found


def test_advice_on_prefork_workers_is_one_list_for_all() -> None:
    found = _advised("prefork")
    assert found["shared_memory"].numbers == {"processes": 7, "of": 7}
    effect = found["shared_memory"].effect
    assert effect
    assert 7 * 27 <= effect.least <= 7 * 32 <= effect.most <= 7 * 38
    assert found["many_processes"].numbers["processes"] == 7
    assert "own_call" in found
    assert "nothing_to_do" not in found


def test_advice_on_asan_does_not_take_its_shadow_for_the_program() -> None:
    found = _advised("asan")
    uses = _uses(_snapshots("asan")[0])
    effect = found["sanitizer"].effect
    assert effect
    assert effect.most <= uses["ASan shadow"].pte_pages + uses["ASan heap"].pte_pages
    assert effect.upper >= 16
    assert not {"sparse", "sparse_reservations"} & found.keys()


def test_advice_on_little_programs_says_that_there_is_nothing_to_do() -> None:
    for name in ("redis", "memfd"):
        (only,) = _advised(name).values()
        assert only.title == "nothing to do: no PTE page is empty"
