# SPDX-License-Identifier: GPL-2.0-only
"""Owners of page tables in stored traces of real programs, on any machine.

tests/live/test_mappings.py records the traces and compares the same numbers with those of the
kernel.
"""

from pathlib import Path

import pytest

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
