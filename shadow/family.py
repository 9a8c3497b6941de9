# SPDX-License-Identifier: GPL-2.0-only
"""Groups of processes: their sums, and the files that they share.

Processes with the same name, cgroup or user often run the same program, such as the backends of a
database or prefork workers. Each process has its own PTE pages for shared memory.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from shadow.escape import valid
from shadow.geometry import X86_64
from shadow.mappings import MappingUse, combined
from shadow.snapshot import Snapshot

__all__ = (
    "CommonMapping",
    "Family",
    "families",
    "family_of",
    "followed_together",
    "grouped",
)

_Member = TypeVar("_Member")


@dataclass(frozen=True)
class CommonMapping:
    """A file or shared memory that several processes map.

    `common_kib` is the size of the part that at least two processes map. `processes` counts
    the processes that map some of this part. `pte_pages` counts their PTE pages for the whole
    file; each process has `least` to `most` of them. `bytes` is the size of all their page
    tables for the file, including upper levels.
    """

    kind: str
    name: str | None
    device: str
    inode: int
    processes: int
    common_kib: int
    pte_pages: float
    least: float
    most: float
    bytes: int


@dataclass(frozen=True)
class Family:
    """A group of processes, and their sums.

    `by` is the property by which processes are grouped: name, cgroup, user, or run (followed
    together). `key` is its value. `vm_pte_kib` is the sum of VmPTE; for a process without a
    VmPTE from the kernel it includes the prediction of the shadow. `mappings` sums the rows
    of all processes by kind and name. `unnamed` counts the processes with unknown mappings,
    which `mappings` does not include.
    """

    by: str
    key: str
    pids: list[int]
    vm_pte_kib: int
    pte_pages: int
    empty: int
    sparse: int
    entries: int
    pmd_pages: int
    pud_pages: int
    thp_deposits: int
    mappings: list[MappingUse] = field(default_factory=list)
    common: list[CommonMapping] = field(default_factory=list)
    unnamed: int = 0
    page_size: int = X86_64.page

    def as_json(self) -> dict[str, Any]:
        """The group in the form of schema 1."""
        return valid(asdict(self))


def grouped(members: Iterable[_Member], key: Callable[[_Member], str]) -> dict[str, list[_Member]]:
    """Group members by key, in the order of the first member of each group."""
    groups: dict[str, list[_Member]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return groups


def _mapped_by_two(uses: list[MappingUse]) -> tuple[int, list[MappingUse]]:
    """Bytes of one file that at least two of these map, and the uses of these bytes."""
    borders = sorted(
        {border for use in uses for part in use.ranges for border in part},
    )
    changes = dict.fromkeys(borders, 0)
    for use in uses:
        for start, end in use.ranges:
            changes[start] += 1
            changes[end] -= 1
    depth, shared = 0, list[tuple[int, int]]()
    for start, end in pairwise(borders):
        depth += changes[start]
        if depth >= 2:
            shared.append((start, end))
    taking_part = [
        use
        for use in uses
        if any(start < b and a < end for start, end in use.ranges for a, b in shared)
    ]
    return sum(end - start for start, end in shared), taking_part


def _common(uses: list[MappingUse]) -> CommonMapping | None:
    size, sharing = _mapped_by_two(uses)
    if not size:
        return None
    first, pages = sharing[0], [use.pte_pages for use in sharing]
    return CommonMapping(
        kind=first.kind,
        name=first.name,
        device=first.device,
        inode=first.inode,
        processes=len(sharing),
        common_kib=size >> 10,
        pte_pages=sum(pages),
        least=min(pages),
        most=max(pages),
        bytes=sum(use.bytes for use in sharing),
    )


def _in_common(members: list[Snapshot]) -> list[CommonMapping]:
    """Files that at least two processes map, by device and inode; most page tables first."""
    files: dict[tuple[str, int], list[MappingUse]] = {}
    for member in members:
        for use in member.mappings or []:
            if use.device and use.ranges:
                files.setdefault((use.device, use.inode), []).append(use)
    found = [common for uses in files.values() if (common := _common(uses))]
    return sorted(found, key=lambda common: -common.bytes)


def family_of(by: str, key: str, members: list[Snapshot]) -> Family:
    """The group of these processes."""
    known = [member for member in members if member.mappings is not None]
    now = [member.now for member in members]
    return Family(
        by=by,
        key=key,
        pids=[member.process.pid for member in members],
        vm_pte_kib=sum(each.vm_pte_kib or each.vm_pte_predicted_kib for each in now),
        pte_pages=sum(each.pte_pages for each in now),
        empty=sum(each.empty for each in now),
        sparse=sum(each.sparse for each in now),
        entries=sum(each.refs for each in now),
        pmd_pages=sum(each.pmd_pages for each in now),
        pud_pages=sum(each.pud_pages for each in now),
        thp_deposits=sum(each.thp_deposits for each in now),
        mappings=combined(use for member in known for use in member.mappings or []),
        common=_in_common(known),
        unnamed=len(members) - len(known),
        page_size=max((each.kernel.page_size for each in members), default=X86_64.page),
    )


def families(
    by: str, members: Iterable[Snapshot], key: Callable[[Snapshot], str], *, least: int = 1
) -> list[Family]:
    """Group processes; the largest groups come first.

    Args:
        by: the name of the key.
        members: the processes.
        key: returns the key of a process.
        least: the minimum size of a group; smaller groups are left out.
    """
    found = [
        family_of(by, name, group)
        for name, group in grouped(members, key).items()
        if len(group) >= least
    ]
    return sorted(found, key=lambda family: -family.vm_pte_kib)


def followed_together(members: list[Snapshot]) -> list[Family]:
    """The processes of one run as a group; an empty list for a single process."""
    if len(members) < 2:
        return []
    names = list(dict.fromkeys(member.process.comm for member in members))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [family_of("run", f"{names[0]}{more}", members)]
