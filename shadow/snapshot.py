# SPDX-License-Identifier: GPL-2.0-only
"""The state of a process at one moment, as plain data.

The fields are those of the output contract, schema 1: later versions may add fields, but never
rename one. Reporters and advice use nothing else. Times are in ns. Field names end in the unit of
a size. Counts are in pages unless the field name says otherwise.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shadow.errors import UsageError
from shadow.escape import valid
from shadow.geometry import X86_64, Geometry, find_geometry
from shadow.mappings import MappingUse
from shadow.origins import Origins
from shadow.page_columns import PtePages
from shadow.remedy import Remedy
from shadow.stacks import StackReport

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = (
    "COMPARED_ENOUGH",
    "METHODS",
    "SCHEMA",
    "SEEDS",
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
"""The readings that an audit can compare a shadow with (`Audit.method`)."""
COMPARED_ENOUGH = 0.95
"""The share of PTE pages that an audit must compare to be complete."""


@dataclass(frozen=True)
class AllocatorOption:
    """The value of an option, and its source: memory, an environment variable, a default ..."""

    value: str
    source: str


@dataclass(frozen=True)
class Allocator:
    """A memory allocator of a process, as far as ptescope knows it.

    `settings` are the environment variables that configure it, `options` their effect.
    `serves` is "malloc", "not malloc", or the names of its own functions; None if ptescope
    does not know. `variables` are the environment variables that this build reads.
    `page_size` is the page size of the allocator in bytes. `unknown` has sentences on what
    ptescope could not find out.
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
        """The first environment variable that configures it."""
        return self.variables[0] if self.variables else None

    def option(self, name: str) -> str | None:
        """The value of an option, or None if it is unknown."""
        found = self.options.get(name)
        return found.value if found else None


@dataclass(frozen=True)
class Process:
    """The observed process; `start_time` is clock ticks after boot, as in /proc/PID/stat.

    `allocator` serves most of its memory, `other_allocators` the rest. `remedy` is null
    unless the process has loaded it.
    """

    pid: int
    comm: str
    start_time: int
    exe: str | None
    allocator: Allocator | None
    other_allocators: list[Allocator] = field(default_factory=list)
    remedy: Remedy | None = None


@dataclass(frozen=True)
class Kernel:
    """The running kernel; `seed` says how the shadow was seeded.

    `probes` lists the attached event sources by back end. Older traces lack the architecture,
    which then is x86-64, and the number of bits of a user address.
    """

    release: str
    policy: str
    levels: int
    page_size: int
    seed: str
    probes: dict[str, list[str]] = field(default_factory=dict)
    arch: str = X86_64.arch
    user_address_bits: int | None = None

    @property
    def geometry(self) -> Geometry:
        """The shape of its page tables.

        Raises:
            ValueError: ptescope knows no such page tables.
        """
        return find_geometry(self.arch, self.page_size, self.levels, self.user_address_bits)


@dataclass(frozen=True)
class Window:
    """The time during which ptescope followed the process (ns, CLOCK_MONOTONIC), and its events."""

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
    The kernel reports `vm_pte_kib`; the shadow predicts `vm_pte_predicted_kib`.
    `occupancy` has 513 items: the numbers of PTE pages with 0, 1, ... 512 entries.
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
    """The result of one policy for the same events.

    `peak` and `mean` are PTE pages. The mean covers the time from the seed to the end of the
    window. `saved_page_seconds` is the integral, over the same time, of the PTE pages that
    exist under `none` but not under this policy. `inferred` is the part of `freed` that no
    event explains: a reading found the entries gone. Each of the `mode_switches` of pte_ref
    switches to atomic mode and waits for an RCU grace period.
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
    """Comparisons of the shadow with the real page tables; differences are summed.

    `runs` counts complete comparisons. `rereads` counts partial readings between them, after
    populate calls, losses or drift; the sums include their differences. `compared` and
    `not_compared` are the PTE pages of the last run: a PTE page that changes during every
    reading cannot be compared. `incomplete_runs` counts runs that compared less than
    `COMPARED_ENOUGH` of them, `vmas_runs` those that compared VMAs too. `method` names the
    reading: with `counted` only entries have addresses. `causes` splits `refs_diff` by likely
    cause, `empty_causes` the empty PTE pages that were missing or extra. `repaired` counts
    corrected PTE pages, `vmas_diff` VMAs with wrong boundaries or protection.
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
        """Whether the last run compared enough PTE pages to be representative."""
        return self.compared >= COMPARED_ENOUGH * (self.compared + self.not_compared)


@dataclass(frozen=True)
class Reading:
    """One reading of the page tables, without events.

    `entries` counts the entries of PTE pages by type, `huge` leaf entries by kind. If
    `exact`, the sum of all tables should equal `vm_pte_kib`; `tries` is the number of
    readings until it did, or until the census gave up. `unstable` counts tables that changed
    during every reading. `how` describes the reading in words.
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

    A census has a `reading` and no `policies`. `empty_slot_vmas` names the mapping at each of
    the `empty_slots`. `mappings` says which mappings own the page tables. It is left out if
    the mappings are unknown, and has kinds but no names if `mappings_named` is false, as for
    older traces. `stacks` is left out unless stacks were requested. `pages` lists the PTE pages
    if the caller asked for them; it is not part of schema 1.
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
    stacks: StackReport | None = None
    pages: PtePages | None = field(default=None, repr=False, compare=False)

    def to_arrow(self) -> "pa.Table":
        """The PTE pages as an Arrow table, one row each; see `PtePages.to_arrow`.

        Raises:
            UsageError: this snapshot was taken without its PTE pages.
        """
        if self.pages is None:
            raise UsageError(
                "This snapshot has counts only. Take it with its PTE pages to convert it to Arrow."
            )
        return self.pages.to_arrow()

    def as_json(self) -> dict[str, Any]:
        """The process in the form of schema 1."""
        plain = asdict(replace(self, pages=None))
        del plain["pages"]
        plain = valid(plain)
        left_out = ("empty_slots", "empty_slot_vmas", "reading", "mappings", "origins", "stacks")
        for optional in left_out:
            if plain[optional] is None:
                del plain[optional]
        return plain


def document(
    snapshots: list[Snapshot], families: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The JSON document of a command.

    Args:
        snapshots: the processes.
        families: sums over groups of processes, as JSON; left out if there are none.
    """
    plain = {"schema": SCHEMA, "processes": [snapshot.as_json() for snapshot in snapshots]}
    return plain | {"families": families} if families else plain
