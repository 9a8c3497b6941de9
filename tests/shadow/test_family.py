# SPDX-License-Identifier: GPL-2.0-only
"""Sums over processes, and the files that they share."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shadow.advice import judge
from shadow.advice.family import JudgedProcess, advise_family
from shadow.family import families, family_of, followed_together
from shadow.mappings import MappingUse
from shadow.report.advice import render_family_advice
from shadow.report.family import render_family
from shadow.snapshot import Snapshot
from tests.shadow.advice.build import evidence, jemalloc, pieces, slots, with_now
from tests.shadow.trace.traces import END_NS, followed

_MIB = 1 << 20


def _use(ranges: list[list[int]], pages: float = 4.0, inode: int = 7) -> MappingUse:
    mapped = sum(end - start for start, end in ranges) >> 10
    return MappingUse(
        *("posix_shm", "/dev/shm/x", 1, mapped, pages, 0.0, 0.0, 9, 0.5, 0.5, 0.0),
        *(int(4096 * (pages + 1)), 0.5, "0:25", inode),
        ranges=ranges,
    )


def _process(pid: int, *uses: MappingUse, comm: str = "server") -> Snapshot:
    snapshot = followed(pid).snapshot(END_NS)
    process = replace(snapshot.process, comm=comm)
    return replace(snapshot, process=process, mappings=list(uses))


@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4), max_size=5))
def test_pages_that_several_processes_map_are_counted_once(
    spans: list[list[tuple[int, int]]],
) -> None:
    """Compare with sets of file pages."""
    mapped = [{page for start, n in each for page in range(start, start + n)} for each in spans]

    def ranges(pages: set[int]) -> list[list[int]]:
        return [[4096 * page, 4096 * (page + 1)] for page in sorted(pages)]

    members = [_process(n + 1, _use(ranges(pages))) for n, pages in enumerate(mapped)]
    common = family_of("name", "x", members).common
    twice = {page for page in set().union(*mapped) if sum(page in each for each in mapped) > 1}
    if not twice:
        assert common == []
        return
    (found,) = common
    assert found.common_kib == 4 * len(twice)
    assert found.processes == sum(bool(each & twice) for each in mapped)
    assert found.bytes == found.processes * 4096 * 5


def test_forty_processes_map_the_same() -> None:
    members = [_process(pid, _use([[0, 860 * _MIB]], 440.0)) for pid in range(1, 41)]
    family = family_of("name", "backend", members)
    now = members[0].now
    assert (family.pte_pages, family.empty) == (40 * now.pte_pages, 40 * now.empty)
    assert family.mappings[0].pte_pages == 40 * 440
    text = render_family(family)
    assert "40 processes map the same 860.0 MiB of /dev/shm/x" in text
    assert "each uses 440 PTE pages for it, 68.9 MiB in total" in text


def test_files_with_one_name_and_two_inodes_are_not_the_same() -> None:
    one, two = _process(1, _use([[0, _MIB]])), _process(2, _use([[0, _MIB]], inode=8))
    assert family_of("name", "x", [one, two]).common == []


def test_processes_with_unknown_mappings_are_reported() -> None:
    known, unknown = _process(1, _use([[0, _MIB]])), replace(_process(2), mappings=None)
    family = family_of("name", "x", [known, unknown])
    assert family.unnamed == 1
    assert "the mappings of 1 process are unknown" in render_family(family)


def test_the_largest_groups_come_first() -> None:
    members = [_process(1, comm="a"), _process(2, comm="b"), _process(3, comm="b")]
    found = families("name", members, lambda each: each.process.comm)
    assert [(family.key, family.pids) for family in found] == [("b", [2, 3]), ("a", [1])]
    (run,) = followed_together(members)
    assert (run.by, run.key, run.pids) == ("run", "a and 1 more", [1, 2, 3])
    assert followed_together(members[:1]) == []


def test_twelve_workers_get_one_finding_that_one_alone_would_not() -> None:
    """Ten empty PTE pages are too few for a finding; the 120 of all workers are enough."""
    alone = evidence(jemalloc(dirty_decay_ms=0), pieces(10), known=slots(10))
    members = []
    for pid in range(1, 13):
        process = replace(alone.snapshot.process, pid=pid)
        snapshot = replace(alone.snapshot, process=process)
        one = replace(alone, snapshot=snapshot, alike=12)
        members.append(JudgedProcess(replace(one, future=None), judge(one)))
    advice = advise_family("server", members)
    rules = [finding.rule for finding in advice.findings]
    assert len(rules) == len(set(rules))
    (purge,) = (finding for finding in advice.findings if finding.rule == "immediate_purge")
    assert purge.numbers == {"processes": 12, "of": 12}
    assert purge.effect
    assert purge.effect.most == 120
    assert "In 12 of 12 processes" in purge.why
    assert purge.slots == []
    text = render_family_advice(advice, detail=False)
    assert text.startswith("server: 12 processes, 120 PTE pages")
    assert text.count("too little to matter") == 1
    assert "nothing to do" not in text


def test_the_sum_decides_whether_there_is_nothing_to_do() -> None:
    """Four processes with half a MiB of empty PTE pages each have 2 MiB."""
    found = with_now(evidence(), pte_pages=200, empty=128)
    few = replace(found, host=replace(found.host, resident=1 << 20))
    assert [finding.rule for finding in advise_family("a", [JudgedProcess(few, [])]).findings] == [
        "nothing_to_do"
    ]
    assert advise_family("a", [JudgedProcess(few, [])] * 4).findings == []
