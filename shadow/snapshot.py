# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a process at one moment, as plain data.

The fields are those of the output contract, schema 1: new ones may come, and none is
renamed. Reporters and advice see nothing else. Times are in ns, sizes in the unit that
the name says, and counts in pages unless the name says otherwise.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shadow.errors import UsageError
from shadow.escape import valid
from shadow.mappings import MappingUse
from shadow.origins import Origins
from shadow.page_columns import PtePages

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = (
    "COMPARED_ENOUGH",
    "METHODS",
    "SCHEMA",
    "SEEDS",
    "SPARSE_BELOW",
    "Allocator",
    "AllocatorOption",
    "Audit",
    "Kernel",
    "Now",
    "PolicyOutcome",
    "Process",
    "Reading",
    "Snapshot",
    "Window",
    "document",
)

SCHEMA = 1
SEEDS = ("none", "census", "counted")
"""The ways to start a shadow (`Kernel.seed`)."""
METHODS = SEEDS
"""What a shadow can be compared with (`Audit.method`)."""
SPARSE_BELOW = 32
"""A PTE page with entries, but fewer than this, is called sparse."""
COMPARED_ENOUGH = 0.95
"""Share of the PTE pages that an audit must compare to be called complete."""


@dataclass(frozen=True)
class AllocatorOption:
    """The value of an option, and where it was found: memory, a variable, a default ..."""

    value: str
    source: str


@dataclass(frozen=True)
class Allocator:
    """A memory allocator of a process, as far as known.

    `settings` are the environment variables that set it, `options` their effect.
    `serves` is "malloc", "not malloc", or calls under names of its own;
    None where that is not known. `variables` are the environment variables that this build
    reads. `page_size` is the size of its own page, bytes. `unknown` has
    sentences on what could not be found out.
    """

    name: str
    version: str | None = None
    linked: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    serves: str | None = None
    variables: list[str] = field(default_factory=list)
    options: dict[str, AllocatorOption] = field(default_factory=dict)
    page_size: int | None = None
    unknown: list[str] = field(default_factory=list)

    @property
    def variable(self) -> str | None:
        """The first of the variables that set it."""
        return self.variables[0] if self.variables else None

    def option(self, name: str) -> str | None:
        """The value of an option, or None if it is not known."""
        found = self.options.get(name)
        return found.value if found else None


@dataclass(frozen=True)
class Process:
    """The observed process; `start_time` is clock ticks after boot, as in /proc/PID/stat.

    `allocator` serves most of its memory, `other_allocators` the rest.
    """

    pid: int
    comm: str
    start_time: int
    exe: str | None
    allocator: Allocator | None
    other_allocators: list[Allocator] = field(default_factory=list)


@dataclass(frozen=True)
class Kernel:
    """The running kernel; `seed` says how the shadow was started.

    `probes` lists the sources of events by the back end that they were attached with.
    """

    release: str
    policy: str
    levels: int
    page_size: int
    seed: str
    probes: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """The observed time (ns, CLOCK_MONOTONIC) and its events."""

    start_ns: int
    end_ns: int
    events: dict[str, int]
    lost: int


@dataclass(frozen=True)
class Now:
    """The page tables at the end of the window, under the running kernel.

    `unplaced` counts empty PTE pages from before the window whose addresses are
    unknown; `pte_pages` and `empty` include them.
    `lazyfree_only` is None without events, because page tables do not show it.
    `vm_pte_kib` is the kernel's figure, `vm_pte_predicted_kib` the shadow's.
    `occupancy` has 513 places: PTE pages with 0, 1, ... 512 entries.
    """

    pte_pages: int
    empty: int
    unplaced: int
    lazyfree_only: int | None
    sparse: int
    refs: int
    pmd_pages: int
    pud_pages: int
    thp_deposits: int
    vm_pte_kib: int | None
    vm_pte_predicted_kib: int
    occupancy: list[int]


@dataclass(frozen=True)
class PolicyOutcome:
    """What one policy made, or would have made, of the same events.

    `peak` and `mean` are PTE pages. The mean is over the time from the seed to the end
    of the window. `saved_page_seconds` is the integral, over the same time, of the PTE
    pages that `none` has and this policy has not. `inferred` is the part of `freed` that
    no event showed, because a reading found the entries gone. Each of the `mode_switches`
    of pte_ref is one to atomic mode and waits for an RCU grace period.
    """

    pte_pages: int
    empty: int
    freed: int
    reallocated: int
    attempts: int
    mode_switches: int
    peak: int
    mean: float
    saved_page_seconds: float
    inferred: int = 0


@dataclass(frozen=True)
class Audit:
    """Comparisons of the shadow with the real page tables, differences summed.

    `runs` counts the comparisons of everything. `rereads` counts readings between them, of
    what populate calls, losses or drift made uncertain; the sums include their differences.
    `compared` and `not_compared` are the PTE pages of the last run: a PTE page that changes
    at each reading cannot be compared. `incomplete_runs` compared less than
    `COMPARED_ENOUGH` of them, `vmas_runs` compared the VMAs too. `method` names the truth:
    with `counted` only entries have addresses. `causes` splits `refs_diff` by its likely
    cause, `empty_causes` the empty PTE pages that were missing or extra. `repaired`
    is the number of corrected PTE pages, `vmas_diff` the number of VMAs with
    other boundaries or another protection.
    """

    runs: int = 0
    pte_pages_diff: int = 0
    empty_missing: int = 0
    empty_extra: int = 0
    refs_diff: int = 0
    vmas_diff: int = 0
    repaired: int = 0
    method: str = "none"
    causes: dict[str, int] = field(default_factory=dict)
    empty_causes: dict[str, int] = field(default_factory=dict)
    rereads: int = 0
    compared: int = 0
    not_compared: int = 0
    incomplete_runs: int = 0
    vmas_runs: int = 0

    @property
    def complete(self) -> bool:
        """Whether the last run compared enough PTE pages to speak for all of them."""
        return self.compared >= COMPARED_ENOUGH * (self.compared + self.not_compared)


@dataclass(frozen=True)
class Reading:
    """Page tables as they were read, without events.

    `entries` counts the entries of PTE pages by type, `huge` leaf entries by kind. With
    `exact` the sum of all tables should equal `vm_pte_kib`; `tries` is the number of
    readings until it did, or until the census gave up. `unstable` tables changed at
    each reading. `how` describes the reading in words.
    """

    exact: bool
    how: str
    entries: dict[str, int]
    huge: dict[str, int]
    tries: int
    took_ns: int
    unstable: int


@dataclass(frozen=True)
class Snapshot:
    """One process at one moment (contract: P).

    A census has a `reading` and no `policies`. `empty_slot_vmas` names what is mapped at
    each of the `empty_slots`. `mappings` says which mappings own the page tables; it is left
    out where they are not known, and has kinds only where `mappings_named` is false, as for
    older traces. `pages` has the PTE pages one by one, where a caller asked
    for them; it is not part of schema 1.
    """

    process: Process
    kernel: Kernel
    window: Window
    now: Now
    policies: dict[str, PolicyOutcome]
    audit: Audit
    notes: list[str] = field(default_factory=list)
    empty_slots: list[int] | None = None
    empty_slot_vmas: list[str] | None = None
    reading: Reading | None = None
    mappings: list[MappingUse] | None = None
    mappings_named: bool = True
    origins: Origins | None = None
    pages: PtePages | None = field(default=None, repr=False, compare=False)

    def to_arrow(self) -> "pa.Table":
        """The PTE pages as an Arrow table, a row each; see `PtePages.to_arrow`.

        Raises:
            UsageError: this snapshot was made without them.
        """
        if self.pages is None:
            raise UsageError("This snapshot has numbers only: its PTE pages were not asked for.")
        return self.pages.to_arrow()

    def as_json(self) -> dict[str, Any]:
        """The process as schema 1 has it."""
        plain = asdict(replace(self, pages=None))
        del plain["pages"]
        plain = valid(plain)
        left_out = ("empty_slots", "empty_slot_vmas", "reading", "mappings", "origins")
        for optional in left_out:
            if plain[optional] is None:
                del plain[optional]
        return plain


def document(
    snapshots: list[Snapshot], families: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The one JSON document of a command.

    Args:
        snapshots: the processes.
        families: sums over some of them, as JSON; left out where there are none.
    """
    plain = {"schema": SCHEMA, "processes": [snapshot.as_json() for snapshot in snapshots]}
    return plain | {"families": families} if families else plain
