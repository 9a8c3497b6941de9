# SPDX-License-Identifier: GPL-2.0-only
"""Rules that judge by the mappings that own the page tables, and what families get of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as whatever
from hypothesis import strategies as st

from shadow.advice import Evidence, Finding, advise, classify_slots, judge
from shadow.advice.family import FamilyAdvice, JudgedProcess, advise_family
from shadow.advice.huge_page_savings import huge_page_savings
from shadow.advice.programs import program_of
from shadow.advice.rules import RULES
from shadow.geometry import X86_64
from shadow.mapping_names import FileName, MappingKind, MappingNames
from shadow.mapping_owners import owners_of
from shadow.mappings import MappingUse, Tables, mapping_uses
from shadow.policy import Policy
from shadow.report.advice import render_advice
from shadow.table.vma import VMA, VmaFlag
from tests.shadow.advice.build import evidence, slots, with_now
from tests.shadow.build import BASE, PAGE, SLOT

_RW_SHARED = VmaFlag.READ | VmaFlag.WRITE | VmaFlag.SHARED
_EVIL = "\x1b[2J/memfd:$(touch INJ)\n`id`\udcff\u202e"


def _use(kind: str, pages: float, **others: object) -> MappingUse:
    """A row; its mapping begins and ends somewhere in a slot."""
    plain = MappingUse(
        *(kind, None, 1, int(pages) << 11, pages, 0.0, 0.0, int(pages * 512), 1.0, 1.0, 0.0),
        *(int(PAGE * (pages + 2)), 0.5),
    )
    return replace(plain, **others)  # type: ignore[arg-type]


def _with(found: Evidence, *uses: MappingUse, exe: str = "/bin/server") -> Evidence:
    process = replace(found.snapshot.process, exe=exe, comm=exe.rsplit("/", maxsplit=1)[-1][:15])
    snapshot = replace(found.snapshot, mappings=list(uses), process=process)
    found = replace(found, snapshot=snapshot)
    return with_now(
        found,
        pte_pages=sum(int(use.pte_pages) for use in uses),
        empty=sum(int(use.empty) for use in uses),
        pmd_pages=sum(int(use.pmd_pages) for use in uses),
        pud_pages=sum(int(use.pud_pages) for use in uses),
    )


def _by(rule: str, given: Evidence) -> Finding | None:
    return next(function for function in RULES if function.__name__ == rule)(given)


def _said(rule: str, given: Evidence) -> Finding:
    found = _by(rule, given)
    assert found is not None, f"{rule} says nothing"
    assert found.rule == rule
    assert found.why
    assert found.source
    assert found.verify
    assert found.risks
    return found


@whatever(
    start=st.integers(0, 1200), length=st.integers(1, 4000), step=st.sampled_from([1, 7, 511, 512])
)
def test_what_huge_pages_save_is_bounded_by_what_a_mapping_is_charged(
    start: int, length: int, step: int
) -> None:
    """Against a count of the slots, with another mapping on each side."""
    first, end = BASE + start * PAGE, BASE + (start + length) * PAGE
    vmas = np.zeros(3, VMA)
    vmas[0] = (BASE - SLOT, first, _RW_SHARED, 1, 0, 0)
    vmas[1] = (first, end, _RW_SHARED, 2, 0, 0)
    vmas[2] = (end, end + SLOT, _RW_SHARED, 3, 0, 0)
    names = MappingNames({n: FileName(MappingKind.MEMFD, str(n), "0:1", n) for n in range(1, 4)})
    touched: dict[int, list[int]] = {}
    for page in [*range(BASE - SLOT, first, PAGE), *range(first, end, step * PAGE)]:
        touched.setdefault(page // SLOT * SLOT, []).append(page % SLOT // PAGE)
    bits = np.zeros((len(touched), 512), np.uint8)
    for row, slot in enumerate(sorted(touched)):
        bits[row, touched[slot]] = 1
    nothing = np.array([], np.int64)
    tables = Tables(
        geometry=X86_64,
        slots=np.array(sorted(touched), np.int64),
        present=np.packbits(bits, axis=1, bitorder="little").view(np.uint64).reshape(-1, 8),
        leaves=nothing,
        deposited=nothing.astype(np.bool_),
        pmd_bases=nothing,
        pud_bases=nothing,
    )
    uses = mapping_uses(vmas, owners_of(vmas, names, 0), tables)
    (use,) = (use for use in uses if use.inode == 2)
    whole = sum(first <= slot and slot + SLOT <= end for slot in touched)
    some = sum(
        any(first <= slot + page * PAGE < end for page in pages) for slot, pages in touched.items()
    )
    least, most = huge_page_savings(use)
    assert least <= whole <= some <= most
    assert most - least <= 4


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("memfd", "MFD_HUGETLB"),
        ("sysv_shm", "SHM_HUGETLB"),
        ("shared_anonymous", "MAP_HUGETLB"),
        ("posix_shm", "remount,huge=advise /dev/shm"),
        ("file", "MADV_HUGEPAGE"),
    ],
)
def test_shared_memory(kind: str, word: str) -> None:
    found = _said("shared_memory", _with(evidence(), _use(kind, 430.5)))
    assert found.change is not None
    assert any(word in line for line in found.change.how)
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (0 if kind == "file" else 390, 475)


def test_shared_memory_is_silent_on_little_and_on_private_memory() -> None:
    for use in (_use("memfd", 63.0), _use("anonymous", 900.0), _use("hugetlb", 900.0)):
        assert _by("shared_memory", _with(evidence(), use)) is None
    empty = _use("memfd", 100.0, empty=90.0)
    assert _by("shared_memory", _with(evidence(), empty)) is None
    assert _by("shared_memory", evidence()) is None  # mappings are not known


def test_what_is_little_in_one_process_is_enough_in_many() -> None:
    alone = _with(evidence(), _use("memfd", 32.0))
    assert _by("shared_memory", alone) is None
    assert _said("shared_memory", replace(alone, alike=7)).effect


def test_empty_slots_of_shared_mappings_are_told_from_private_and_locked_ones() -> None:
    vmas = np.zeros(6, VMA)
    kinds = (
        (_RW_SHARED, 1),  # a memfd
        (VmaFlag.READ | VmaFlag.WRITE, 1),  # the same, private
        (_RW_SHARED | VmaFlag.LOCKED, 1),
        (_RW_SHARED, 2),  # a device
        (_RW_SHARED, 0),  # shared anonymous memory
        (_RW_SHARED | VmaFlag.HUGETLB, 1),
    )
    for number, (flags, file) in enumerate(kinds):
        at = BASE + 2 * number * SLOT
        vmas[number] = (at, at + 2 * SLOT, flags, file, 0, 0)
    vmas["end"][4] -= PAGE  # its second slot is not whole
    names = MappingNames(
        {1: FileName(MappingKind.MEMFD, "m"), 2: FileName(MappingKind.DEVICE, "/dev/x")}
    )
    empty = [BASE + number * SLOT for number in range(13)]
    found = classify_slots(empty, vmas, "madvise", X86_64, names)
    assert found.shared == [BASE, BASE + SLOT, BASE + 8 * SLOT]
    assert classify_slots(empty, vmas, "madvise", X86_64).shared == []
    assert classify_slots([], vmas[:0], "madvise", X86_64, names).shared == []


def test_shared_emptied_joins_slots_and_names_no_race() -> None:
    addresses = [BASE + number * SLOT for number in (0, 1, 2, 7, 9)]
    given = evidence(known=replace(slots(), shared=addresses))
    found = _said("shared_emptied", given)
    assert found.change is not None
    assert found.change.how == [
        f"madvise((void *){BASE:#x}, {3 * SLOT}, MADV_DONTNEED);",
        f"madvise((void *){BASE + 7 * SLOT:#x}, {SLOT}, MADV_DONTNEED);",
        f"madvise((void *){BASE + 9 * SLOT:#x}, {SLOT}, MADV_DONTNEED);",
    ]
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (5, 5)
    assert not any("RACE" in risk for risk in found.risks)
    hidden = _said("shared_emptied", replace(given, redacted=True))
    assert hidden.slots == []
    assert hidden.change is not None
    assert hidden.change.how == []
    for silent in (
        evidence(known=slots(5)),
        replace(given, ended=True),
        evidence(known=given.slots, policy=Policy.NONE),
        replace(given, slots=None),
    ):
        assert _by("shared_emptied", silent) is None


def _asan(shadow: float, heap: float, upper: float) -> list[MappingUse]:
    rows = (("sanitizer", "ASan shadow", shadow), ("allocator", "ASan heap", heap))
    each = upper / 2
    return [
        _use(*(kind, n), name=name, pmd_pages=each, pud_pages=0.0, bytes=int(PAGE * (n + each)))
        for kind, name, n in rows
    ]


def test_sanitizer() -> None:
    found = _said("sanitizer", _with(evidence(), *_asan(30.5, 60.0, 80.0), _use("heap", 9.0)))
    assert found.effect is not None
    assert (found.effect.least, found.effect.most, found.effect.upper) == (0, 90, 80)
    assert "cannot be predicted" in found.effect.basis
    assert found.change is not None
    assert "production" in found.change.what
    assert "quarantine_size_mb" in found.change.how[0]
    less = _with(evidence(), *_asan(30.0, 60.0, 80.0), _use("heap", 900.0))
    assert _by("sanitizer", less) is None
    glibc = _use("allocator", 90.0, name="glibc malloc arenas")
    assert _by("sanitizer", _with(evidence(), glibc)) is None


def test_sparse_reservations_and_not_those_of_a_sanitizer() -> None:
    pool = _use("reservation", 100.0, pmd_pages=90.0, pud_pages=10.0)
    found = _said("sparse_reservations", _with(evidence(), pool))
    assert found.effect is not None
    assert found.effect.upper == 98  # a PMD page and a PUD page would do
    assert found.effect.as_json()["upper_pages"] == [0, 98]
    assert found.effect.as_json()["bytes"] == [0, 98 * PAGE]
    assert (
        _by("sparse_reservations", _with(evidence(), _use("heap", 400.0, pmd_pages=90.0))) is None
    )
    assert _by("sparse_reservations", _with(evidence(), *_asan(50.0, 50.0, 200.0))) is None
    text = render_advice(_with(evidence(), pool), advise(_with(evidence(), pool)), detail=True)
    assert "saves   at most 98 PMD and PUD pages, 392 KiB" in text


_QEMU = "/usr/bin/qemu-system-x86_64"


def test_a_virtual_machine_that_gave_memory_back() -> None:
    guest = _use("anonymous", 547.0, empty=200.0)
    given = _with(evidence(), guest, exe=_QEMU)
    found = _said("free_page_reporting", given)
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (0, 200)
    assert found.change is not None
    assert "free-page-reporting=on" in found.change.how[0]
    assert _by("free_page_reporting", _with(evidence(), guest)) is None
    full = _with(evidence(), _use("anonymous", 547.0, empty=20.0), exe=_QEMU)
    assert _by("free_page_reporting", full) is None
    older = _with(evidence(policy=Policy.NONE), guest, exe=_QEMU)
    assert _by("free_page_reporting", older) is None


def test_a_virtual_machine_without_huge_pages() -> None:
    given = _with(evidence(), _use("memfd", 512.0), exe=_QEMU)
    found = _said("guest_huge_pages", given)
    assert found.effect is not None
    assert (found.effect.least, found.effect.most) == (464, 565)
    assert _by("shared_memory", given) is None  # said once
    anonymous = _with(evidence(), _use("anonymous", 512.0), exe=_QEMU)
    least = _said("guest_huge_pages", anonymous).effect
    assert least is not None
    assert least.least == 0
    never = replace(anonymous, host=replace(anonymous.host, thp="never"))
    change = _said("guest_huge_pages", never).change
    assert change is not None
    assert change.how[0].startswith("echo madvise")
    assert _by("guest_huge_pages", _with(evidence(), _use("memfd", 60.0), exe=_QEMU)) is None


@pytest.mark.parametrize(
    ("exe", "comm", "name"),
    [
        ("/usr/lib/postgresql/15/bin/postgres", "postgres", "PostgreSQL"),
        ("/usr/lib/postgresql/15/bin/postgres (deleted)", "x", "PostgreSQL"),
        ("/usr/bin/qemu-system-aarch64", "x", "QEMU"),
        ("/usr/libexec/qemu-kvm", "qemu-kvm", "QEMU"),
        (None, "qemu-system-x86", "QEMU"),
        ("/usr/sbin/php-fpm8.2", "php-fpm8.2", "PHP-FPM"),
        ("/opt/jdk/bin/java", "java", "the Java VM"),
        ("/tmp/postgresql", "postgresql", None),
        ("", "", None),
    ],
)
def test_programs_are_known_by_their_executable(
    exe: str | None, comm: str, name: str | None
) -> None:
    found = program_of(replace(evidence().snapshot.process, exe=exe, comm=comm))
    assert (found.name if found else None) == name


def test_a_database_is_addressed_by_its_settings() -> None:
    exe = "/usr/lib/postgresql/15/bin/postgres"
    found = _said("shared_memory", _with(evidence(), _use("shared_anonymous", 400.0), exe=exe))
    assert found.change is not None
    assert "huge_pages = on" in found.change.how
    assert "PostgreSQL manual" in found.source


def test_what_only_the_makers_can_change_comes_last_and_says_so() -> None:
    exe = "/usr/lib/postgresql/15/bin/postgres"
    given = _with(evidence(known=slots(300)), _use("shared_anonymous", 900.0, empty=300.0), exe=exe)
    found = [each for each in judge(given) if each.rule == "own_call"]
    assert found[0].audience == "makers"
    assert found[0].change is not None
    assert found[0].change.what.startswith("This is for the makers of PostgreSQL")
    assert [each.rule for each in advise(given)][-1] == "own_call"
    unknown = judge(_with(evidence(known=slots(300)), exe="/bin/x"))
    assert unknown
    assert {each.audience for each in unknown} == {"anyone"}


def _first(given: Evidence) -> Finding:
    found = advise(given)
    assert [each.rule for each in found] == ["nothing_to_do"]
    return found[0]


def test_nothing_to_do_states_an_amount_a_share_or_that_tables_are_full() -> None:
    resident = replace(evidence(), host=replace(evidence().host, resident=1 << 40))
    nearly_all = with_now(evidence(), pte_pages=100, empty=98)
    assert _first(nearly_all).title == (
        "nothing to do: what is empty is too little to matter: 392 KiB"
    )
    assert "98.0 %" in _first(nearly_all).why
    share = with_now(resident, pte_pages=10_000, empty=4_700)
    assert "a small share: 18 MiB, less than 0.1 % of what is resident" in _first(share).title
    full = _first(with_now(evidence(), pte_pages=10_000, empty=20))
    assert "the tables are full" in full.title
    assert "huge pages, or fewer processes" in full.why
    assert full.change is None
    assert _first(with_now(evidence(), pte_pages=9, empty=0)).title.endswith("no PTE page is empty")
    java = replace(
        full_java := with_now(evidence(), pte_pages=10_000, empty=20),
        snapshot=replace(
            full_java.snapshot, process=replace(full_java.snapshot.process, exe="/usr/bin/java")
        ),
    )
    change = _first(java).change
    assert change is not None
    assert change.how == ["-XX:+UseTransparentHugePages"]


def _family(number: int, *uses: MappingUse, exe: str = "/bin/server") -> FamilyAdvice:
    members = []
    for pid in range(1, number + 1):
        one = replace(_with(evidence(), *uses, exe=exe), alike=number)
        process = replace(one.snapshot.process, pid=pid)
        one = replace(one, snapshot=replace(one.snapshot, process=process))
        members.append(JudgedProcess(replace(one, future=None), judge(one)))
    return advise_family("server", members)


def test_many_processes_get_one_finding() -> None:
    shared = _use("posix_shm", 440.0, device="0:25", inode=7, ranges=[[0, 860 << 20]])
    advice = _family(40, shared)
    rules = [each.rule for each in advice.findings]
    assert sorted(rules) == ["many_processes", "shared_memory"]
    together = next(each for each in advice.findings if each.rule == "many_processes")
    assert together.effect is not None
    assert (together.effect.least, together.effect.most) == (8_000, 9_680)  # 20 * 440 and a tenth
    assert together.numbers["shared_pte_pages"] == 40 * 440
    memory = next(each for each in advice.findings if each.rule == "shared_memory")
    assert memory.effect is not None
    assert (memory.effect.least, memory.effect.most) == (40 * 398, 40 * 440)


def test_few_or_unlike_processes_are_not_many() -> None:
    assert not any(
        each.rule == "many_processes" for each in _family(3, _use("heap", 400.0)).findings
    )
    assert not any(
        each.rule == "many_processes" for each in _family(9, _use("heap", 20.0)).findings
    )
    members = [
        JudgedProcess(_with(evidence(), _use("heap", float(pages))), [])
        for pages in (10, 10, 10, 900, 900, 900)
    ]
    assert "many_processes" not in {each.rule for each in advise_family("x", members).findings}


def test_hostile_names_of_mappings_and_programs_do_no_harm() -> None:
    uses = [
        _use(kind, 300.0, name=_EVIL, pmd_pages=400.0, empty=100.0)
        for kind in ("memfd", "file", "sanitizer", "allocator", "anonymous", "no such kind")
    ]
    given = _with(evidence(known=replace(slots(300), shared=[BASE])), *uses)
    for exe in ("/bin/" + _EVIL, _QEMU, "/bin/postgres"):
        hostile = replace(
            given,
            snapshot=replace(
                given.snapshot, process=replace(given.snapshot.process, exe=exe, comm=_EVIL)
            ),
        )
        found = advise(hostile)
        assert found
        for each in found:
            change = each.change
            commands = [each.verify, *((change.what, *change.how) if change else ())]
            assert not any("INJ" in line for line in commands)
            json.dumps(each.as_json(), ensure_ascii=False).encode()
        text = render_advice(hostile, found, detail=True)
        assert "\x1b" not in text
        assert "\u202e" not in text
