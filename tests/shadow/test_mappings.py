# SPDX-License-Identifier: GPL-2.0-only
"""Every byte of every table is charged to its mappings, for any address space."""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.geometry import X86_64
from shadow.mapping_names import NO_NAMES, FileName, MappingKind, MappingNames
from shadow.mapping_owners import owners_of
from shadow.mappings import MappingUse, Tables, combined, mapping_uses
from shadow.table.vma import VMA, VmaFlag
from tests.x86_64 import PAGE, PMD_SPAN, PUD_SPAN, SLOT

_RW = VmaFlag.READ | VmaFlag.WRITE
_BASE = 0x2000_0000_0000
_FILES = MappingNames(
    {n: FileName(MappingKind.FILE, f"/file{n}", "8:1", 100 + n) for n in range(1, 6)}
)


def _vmas(*rows: tuple[int, int, int, int, int]) -> np.ndarray:
    """VMAs from rows of start, end, flags, file and page offset."""
    return np.array([(*row, 0) for row in rows], VMA)


def _tables(
    pages: dict[int, set[int]], leaves: dict[int, bool] | None = None, unplaced: int = 0
) -> Tables:
    """Tables with these PTE pages (slot: indices of entries) and leaf PMDs (slot: deposited)."""
    leaves = leaves or {}
    slots = sorted(pages)
    bits = np.zeros((len(slots), 512), np.uint8)
    for row, slot in enumerate(slots):
        bits[row, sorted(pages[slot])] = 1
    below = [*slots, *leaves]
    return Tables(
        geometry=X86_64,
        slots=np.array(slots, np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64).reshape(-1, 8),
        leaves=np.array(sorted(leaves), np.int64),
        deposited=np.array([leaves[slot] for slot in sorted(leaves)], np.bool_),
        pmd_bases=np.unique(np.array(below, np.int64) & -PMD_SPAN),
        pud_bases=np.unique(np.array(below, np.int64) & -PUD_SPAN),
        unplaced=unplaced,
    )


def _uses(vmas: np.ndarray, tables: Tables, names: MappingNames = _FILES) -> list[MappingUse]:
    return mapping_uses(vmas, owners_of(vmas, names, 0), tables)


@st.composite
def _spaces(draw: st.DrawFn) -> tuple[np.ndarray, Tables]:
    """VMAs with holes across a few GiB, and tables inside and outside of them."""
    rows, address = [], _BASE
    for _ in range(draw(st.integers(0, 12))):
        address += draw(st.sampled_from([0, 0, 1, 7, 512, 700, 512 * 512])) * PAGE
        end = address + draw(st.sampled_from([1, 3, 100, 511, 512, 513, 5000, 300_000])) * PAGE
        rows.append((address, end, int(_RW), draw(st.integers(0, 5)), draw(st.integers(0, 99))))
        address = end
    limit = max(address, _BASE + SLOT)
    slots = draw(
        st.sets(st.integers(_BASE // SLOT, limit // SLOT + 1).map(lambda n: n * SLOT), max_size=20)
    )
    pages, leaves = {}, {}
    for slot in sorted(slots):
        if draw(st.integers(0, 4)) == 0:
            leaves[slot] = draw(st.booleans())
        else:
            pages[slot] = draw(st.sets(st.integers(0, 511), max_size=40))
    return _vmas(*rows), _tables(pages, leaves, draw(st.sampled_from([0, 0, 3])))


def _exact(vmas: np.ndarray, tables: Tables) -> dict[int, Fraction]:
    """Tables charged by file number, -1 for unmapped: the rule of the module as plain code."""
    owner = [
        (int(v["start"]), int(v["end"]), int(v["file"])) for v in vmas
    ]  # 0 is anonymous memory

    def by_span(base: int, span: int) -> dict[int, int]:
        found: dict[int, int] = defaultdict(int)
        for start, end, who in owner:
            found[who] += max(min(end, base + span) - max(start, base), 0)
        return {who: size for who, size in found.items() if size} or {-1: 1}

    def who_has(address: int) -> int:
        return next((who for start, end, who in owner if start <= address < end), -1)

    def shares(weights: Mapping[int, Fraction | int]) -> dict[int, Fraction]:
        whole = sum(weights.values(), Fraction(0))
        return {who: Fraction(weight) / whole for who, weight in weights.items()}

    charged: dict[int, Fraction] = defaultdict(Fraction)
    below_pmd: dict[int, dict[int, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    bits = np.unpackbits(tables.present.view(np.uint8), axis=1, bitorder="little")
    for slot, row in zip(tables.slots.tolist(), bits, strict=True):
        weights: dict[int, int] = defaultdict(int)
        for number in np.flatnonzero(row).tolist():
            weights[who_has(slot + number * PAGE)] += 1
        for who, part in shares(dict(weights) or by_span(slot, SLOT)).items():
            charged[who] += part
            below_pmd[slot & -PMD_SPAN][who] += part
    for slot, deposit in zip(tables.leaves.tolist(), tables.deposited.tolist(), strict=True):
        below_pmd[slot & -PMD_SPAN][who_has(slot)] += 1
        charged[who_has(slot)] += deposit
    below_pud: dict[int, dict[int, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for base in tables.pmd_bases.tolist():
        for who, part in shares(below_pmd.get(base) or by_span(base, PMD_SPAN)).items():
            charged[who] += part
            below_pud[base & -PUD_SPAN][who] += part
    for base in tables.pud_bases.tolist():
        for who, part in shares(below_pud.get(base) or by_span(base, PUD_SPAN)).items():
            charged[who] += part
    return charged


@given(_spaces())
def test_all_sums_are_exact_and_every_part_is_right(space: tuple[np.ndarray, Tables]) -> None:
    vmas, tables = space
    uses = _uses(vmas, tables)
    refs = np.bitwise_count(tables.present).sum(axis=1)
    placed = len(tables.slots)
    assert sum(use.pte_pages for use in uses) == placed + tables.unplaced
    assert sum(use.empty for use in uses) == np.count_nonzero(refs == 0) + tables.unplaced
    assert sum(use.sparse for use in uses) == np.count_nonzero((refs > 0) & (refs < 32))
    assert sum(use.entries for use in uses) == refs.sum()
    assert sum(use.pmd_pages for use in uses) == len(tables.pmd_bases)
    assert sum(use.pud_pages for use in uses) == len(tables.pud_bases)
    assert sum(use.thp_deposits for use in uses) == np.count_nonzero(tables.deposited)
    number = placed + tables.unplaced + len(tables.pmd_bases) + len(tables.pud_bases)
    number += int(np.count_nonzero(tables.deposited))
    assert sum(use.bytes for use in uses) == PAGE * number
    assert sum(use.share for use in uses) == pytest.approx(1.0 if number else 0.0, abs=1e-4)
    exact = _exact(vmas, tables)
    for use in uses:
        if use.kind == MappingKind.UNPLACED:
            continue
        who = -1 if use.kind == MappingKind.UNMAPPED else 0
        if use.name:
            who = int(use.name.removeprefix("/file"))
        # Splitting a table rounds by up to two bytes, and adds to the rounding in upper levels.
        assert abs(use.bytes - exact.pop(who) * PAGE) <= 4 * number
    assert all(part * PAGE <= 4 * number for part in exact.values())


@given(_spaces())
def test_sums_of_sums_are_sums(space: tuple[np.ndarray, Tables]) -> None:
    uses = _uses(*space)
    twice = combined([*uses, *uses], names=False)
    assert len({use.kind for use in twice}) == len(twice)
    for column in ("bytes", "pte_pages", "empty", "sparse", "entries", "pmd_pages", "pud_pages"):
        once = sum(getattr(use, column) for use in uses)
        assert sum(getattr(use, column) for use in twice) == 2 * once


def test_a_pte_page_is_split_by_entries_and_an_empty_one_by_addresses() -> None:
    half = SLOT // 2
    vmas = _vmas(
        (_BASE, _BASE + half, _RW, 1, 0),
        (_BASE + half, _BASE + SLOT, _RW, 2, 0),
        (_BASE + SLOT, _BASE + SLOT + half, _RW, 1, 512),
        (_BASE + SLOT + half, _BASE + 2 * SLOT, _RW, 2, 512),
    )
    one, two = _uses(vmas, _tables({_BASE: {0, 256, 300, 511}, _BASE + SLOT: set()}))
    assert (two.name, two.pte_pages, two.empty, two.entries) == ("/file1", 0.75, 0.5, 1)
    assert (one.name, one.pte_pages, one.empty, one.entries) == ("/file2", 1.25, 0.5, 3)
    assert one.pmd_pages == one.pud_pages == 0.625
    assert (one.mappings, one.mapped_kib) == (2, 2048)
    assert two.ranges == [[0, half], [SLOT, SLOT + half]]
    assert (two.device, two.inode) == ("8:1", 101)


def test_upper_levels_are_charged_to_the_owners_of_lower_tables() -> None:
    """The sparse mapping has one PTE page in each GiB; the dense one has 64 in one GiB."""
    sparse_at, dense_at = _BASE, _BASE + PUD_SPAN
    vmas = _vmas(
        (sparse_at, sparse_at + 8 * PMD_SPAN, _RW, 1, 0),
        (dense_at, dense_at + PMD_SPAN, _RW, 2, 0),
    )
    pages = {sparse_at + n * PMD_SPAN: {0} for n in range(8)}
    pages |= {dense_at + n * SLOT: set(range(512)) for n in range(64)}
    dense, sparse = _uses(vmas, _tables(pages))
    assert (dense.pte_pages, dense.pmd_pages, dense.pud_pages, dense.sparse) == (64, 1, 1, 0)
    assert (sparse.pte_pages, sparse.pmd_pages, sparse.pud_pages, sparse.sparse) == (8, 8, 1, 8)


def test_tables_without_a_mapping_have_their_own_rows() -> None:
    uses = _uses(_vmas(), _tables({_BASE: {1, 2}}, unplaced=2))
    assert {use.kind: use.pte_pages for use in uses} == {"unmapped": 1, "unplaced": 2}
    entries_beside = _uses(_vmas((_BASE, _BASE + PAGE, _RW, 1, 0)), _tables({_BASE: {0, 5, 6}}))
    assert {use.kind: use.entries for use in entries_beside} == {"unmapped": 2, "file": 1}


def test_a_process_without_names_has_kinds_only() -> None:
    vmas = _vmas(
        (_BASE, _BASE + SLOT, _RW, 7, 0),
        (_BASE + SLOT, _BASE + 2 * SLOT, _RW, 0, 0),
        (_BASE + 2 * SLOT, _BASE + 3 * SLOT, _RW | VmaFlag.GROWSDOWN, 0, 0),
    )
    pages = {_BASE + n * SLOT: {0} for n in range(3)}
    uses = _uses(vmas, _tables(pages), NO_NAMES)
    assert {use.kind: use.name for use in uses} == {
        "other": None,
        "anonymous": None,
        "stack": "[stack]",
    }
