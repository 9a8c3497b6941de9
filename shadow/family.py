# SPDX-License-Identifier: GPL-2.0-only
"""Processes that belong together, as one: their sums, and what they map in common.

Processes of one name, cgroup or user often are the same program many times: backends of a
database, prefork workers. Each has PTE pages of its own for the memory that they share.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from shadow.escape import valid
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
    """A file, or memory that is one to the kernel, which several processes map.

    `common_kib` is the part of it that at least two of them map; `processes` are those that
    map some of that. Their PTE pages for the whole of it are `pte_pages` in all, and from
    `least` to `most` each; `bytes` are all their page tables for it, upper levels included.
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
    """Processes that have something in common, and their sums.

    `by` says what they have in common: name, cgroup, user, or run, which is that they were
    followed together; `key` is that. `vm_pte_kib` is
    the sum of VmPTE where the kernel states it, and otherwise of what the shadow predicts.
    `mappings` are rows of all of them, those of the same kind and name summed; `unnamed`
    counts the members of which no mappings are known, which are missing there.
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

    def as_json(self) -> dict[str, Any]:
        """As schema 1 has it."""
        return valid(asdict(self))


def grouped(members: Iterable[_Member], key: Callable[[_Member], str]) -> dict[str, list[_Member]]:
    """Members by their key, in the order in which keys are met."""
    groups: dict[str, list[_Member]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return groups


def _mapped_by_two(uses: list[MappingUse]) -> tuple[int, list[MappingUse]]:
    """Bytes of one file that at least two of these map, and those that map some of them."""
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
    """What at least two processes map, by device and inode; most page tables first."""
    files: dict[tuple[str, int], list[MappingUse]] = {}
    for member in members:
        for use in member.mappings or []:
            if use.device and use.ranges:
                files.setdefault((use.device, use.inode), []).append(use)
    found = [common for uses in files.values() if (common := _common(uses))]
    return sorted(found, key=lambda common: -common.bytes)


def family_of(by: str, key: str, members: list[Snapshot]) -> Family:
    """These processes as one."""
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
    )


def families(
    by: str, members: Iterable[Snapshot], key: Callable[[Snapshot], str], *, least: int = 1
) -> list[Family]:
    """Processes grouped, the largest groups first.

    Args:
        by: what the key is.
        members: the processes.
        key: what those that belong together have in common.
        least: leave out groups of fewer.
    """
    found = [
        family_of(by, name, group)
        for name, group in grouped(members, key).items()
        if len(group) >= least
    ]
    return sorted(found, key=lambda family: -family.vm_pte_kib)


def followed_together(members: list[Snapshot]) -> list[Family]:
    """The processes of one run as one family; none where there is one process only."""
    if len(members) < 2:
        return []
    names = list(dict.fromkeys(member.process.comm for member in members))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [family_of("run", f"{names[0]}{more}", members)]
