# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of a recorded kernel: given, read from the text, or assumed, and then said so."""

import pytest

from shadow.engine import Engine
from shadow.errors import UsageError
from shadow.geometry import X86_64, X86_64_5
from shadow.perf_import import PageTables, read_recording
from shadow.policy import Policy
from shadow.records import Facts
from shadow.table.counters import Counter

_KIB = 1 << 10
_TOP = 0xFFFF_8000_0000
_MANY = 12


def _line(time: int, event: str) -> str:
    return f"  server  7/7  [000]  {time}.000000000:  {event}"


def _mapped(addresses: list[int]) -> list[str]:
    enter = "syscalls:sys_enter_mmap: addr: 0x0, len: 0x1000, prot: 0x3, flags: 0x22, fd: 0, off: 0"
    lines = []
    for at, address in enumerate(addresses, 1):
        lines += [_line(at, enter), _line(at, f"syscalls:sys_exit_mmap: {address:#x}")]
    return lines


def _text(
    addresses: list[int], release: str = "6.12.94", arch: str | None = "aarch64"
) -> list[str]:
    header = [f"# os release : {release}"] + ([f"# arch : {arch}"] if arch else [])
    touched = [_line(90 + i, f"page-faults:  {a + 8:x}") for i, a in enumerate(addresses)]
    return [*header, *_mapped(addresses), *touched]


def _facts(lines: list[str], given: PageTables | None = None) -> Facts:
    recording = read_recording(lines, page_tables=given)
    assert recording.strange == 0
    facts = next(record for _, _, record in recording.records())
    assert isinstance(facts, Facts)
    return facts


def _multiples(page: int, count: int = _MANY) -> list[int]:
    """Odd multiples of a page, far from each other."""
    return [_TOP + page * (2 * i + 1) for i in range(count)]


@pytest.mark.parametrize("kib", [4, 16, 64])
def test_many_addresses_of_mmap_show_the_page_size(kib: int) -> None:
    facts = _facts(_text(_multiples(kib * _KIB)))
    geometry = facts.kernel.geometry
    assert (geometry.arch, geometry.page, geometry.user_address_bits) == ("arm64", kib * _KIB, 48)
    (note,) = (note for note in facts.notes if "assumed:" in note)
    assert geometry.name in note
    assert f"{_MANY} addresses that mmap returned" in note


def test_one_address_proves_pages_of_4_kib() -> None:
    addresses = [*_multiples(64 * _KIB), _TOP + 3 * 4 * _KIB]
    assert _facts(_text(addresses)).kernel.page_size == 4 * _KIB


def test_few_addresses_show_nothing_and_the_report_says_so() -> None:
    facts = _facts(_text(_multiples(64 * _KIB, _MANY - 1)))
    assert facts.kernel.page_size == 4 * _KIB
    assert any("too few addresses" in note for note in facts.notes)


@pytest.mark.parametrize(
    ("release", "kib"),
    [
        ("6.12.94+deb13-arm64-16k", 16),
        ("5.14.0-427.el9.aarch64+64k", 64),
        ("6.8.0-31-generic-64k", 64),
        ("6.12.94+deb13-arm64", 4),
        ("6.12.94-8k", 4),
    ],
)
def test_a_release_names_its_pages(release: str, kib: int) -> None:
    facts = _facts(_text(_multiples(64 * _KIB, 2), release))
    assert facts.kernel.page_size == kib * _KIB
    assert any("by the name of its release" in note for note in facts.notes) == (kib > 4)


def test_addresses_refute_a_release() -> None:
    facts = _facts(_text(_multiples(4 * _KIB, 2), "6.12.94-mine-64k"))
    assert facts.kernel.page_size == 4 * _KIB


def test_what_the_user_says_wins_and_nothing_is_assumed() -> None:
    lines = _text(_multiples(64 * _KIB), arch=None)
    facts = _facts(lines, PageTables("arm64", 16 * _KIB))
    assert (facts.kernel.arch, facts.kernel.page_size) == ("arm64", 16 * _KIB)
    assert not any("assumed:" in note for note in facts.notes)


def test_without_an_architecture_x86_64_is_assumed_and_said() -> None:
    facts = _facts(_text([0x7F00_0000_1000], arch=None))
    assert facts.kernel.geometry is X86_64
    assert any("no architecture" in note for note in facts.notes)
    named = _facts(_text([0x7F00_0000_1000], arch="x86_64"))
    assert named.kernel.geometry is X86_64
    assert not any("assumed:" in note for note in named.notes)


def test_addresses_show_the_levels() -> None:
    high = _facts(_text([0xFF_0000_0000_0000], arch="x86_64"))
    assert high.kernel.geometry is X86_64_5
    low = _facts(_text([0x7F_8000_4000], "6.6.1-16k"))
    assert (low.kernel.levels, low.kernel.user_address_bits) == (3, 47)
    small = _facts(_text([0x7F_8000_1000]))
    assert (small.kernel.levels, small.kernel.user_address_bits) == (3, 39)


@pytest.mark.parametrize(
    "given", [PageTables("x86-64", 16 * _KIB), PageTables("arm64", 8 * _KIB)], ids=str
)
def test_unknown_page_tables_are_refused_with_a_list(given: PageTables) -> None:
    with pytest.raises(UsageError, match="arm64, 64K pages"):
        read_recording(_text(_multiples(4 * _KIB)), page_tables=given)


@pytest.mark.parametrize(
    ("arch", "release", "policy"),
    [
        ("x86_64", "6.13.9", Policy.NONE),
        ("x86_64", "6.14.0", Policy.PT_RECLAIM),
        ("aarch64", "6.18.5", Policy.NONE),
        ("aarch64", "7.0.1", Policy.PT_RECLAIM),
    ],
)
def test_arm64_frees_since_7_0(arch: str, release: str, policy: Policy) -> None:
    facts = _facts(_text([0x7F_8000_1000], release, arch))
    assert facts.kernel.policy == policy.label


def test_software_events_are_faults_at_their_addresses() -> None:
    lines = [
        "# arch : aarch64",
        "# os release : 7.0.1-64k",
        *_mapped([_TOP]),
        _line(2, "page-faults:     ffff80000008"),
        _line(3, "page-faults:u:     ffff8001fff0"),
        _line(4, "page-faults:     ffff800080000000"),  # of the kernel
    ]
    recording = read_recording(lines)
    assert recording.strange == 0
    facts, *others = (record for _, _, record in recording.records())
    assert isinstance(facts, Facts)
    engine = Engine(facts)
    for record in others:
        engine.apply(record)
    assert engine.table.counter(Counter.REFS) == 1 + 1
    assert engine.table.geometry.slot == 512 << 20


def test_a_software_event_without_an_address_is_not_understood() -> None:
    assert read_recording([*_text([_TOP]), _line(99, "page-faults: ")]).strange == 1
