# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of the matrix, and what each of them lacks."""

from dataclasses import dataclass

from shadow.policy import Policy
from tools.vm_guests.machines import AMD64
from tracer.probes.sources import Backend

__all__ = ("MATRIX", "NOT_YET", "ON_EVERY_RUN", "Machine")

NOT_YET = {"PTE page freed by RCU", "mseal", "map_shadow_stack", "direct I/O", "io_uring"}
"""Sources that 6.1 lacks: pte_free_defer came with v6.6, the calls and tracepoints later."""
_NOT_YET_ON_ARM64 = NOT_YET | {"pkey_mprotect"}
"""Protection keys came with v6.12 (FEAT_S1POE)."""
_INLINED_ON_ARM64 = {"PTE page freed"}


@dataclass(frozen=True)
class Machine:
    """A kernel to boot, and its known policy."""

    series: str
    levels: int
    policy: Policy
    flavour: str = AMD64.flavour

    @property
    def name(self) -> str:
        """Its name in reports of pytest."""
        return self.series if self.flavour == AMD64.flavour else f"{self.flavour}-{self.series}"

    @property
    def is_arm64(self) -> bool:
        """Whether its processor is arm64."""
        return self.flavour != AMD64.flavour

    @property
    def has_fentry(self) -> bool:
        """Whether programs can be attached with fentry; on arm64 since v6.4."""
        return not self.is_arm64 or self.series != "6.1"

    @property
    def best(self) -> Backend:
        """The best back end; Debian's kernels preempt kernel code since 6.18."""
        preempts = self.series not in ("6.1", "6.12")
        return Backend.FENTRY if self.has_fentry and not preempts else Backend.KPROBE

    @property
    def missing(self) -> set[str]:
        """The sources that this kernel lacks."""
        if not self.is_arm64:
            return NOT_YET if self.series == "6.1" else set()
        return _INLINED_ON_ARM64 | (_NOT_YET_ON_ARM64 if self.series == "6.1" else set())


MATRIX = (
    Machine("6.1", 4, Policy.NONE),
    Machine("6.18", 5, Policy.PT_RECLAIM),
    Machine("6.12", 4, Policy.NONE),
    Machine("7.x", 4, Policy.PT_RECLAIM),
    Machine("6.1", 4, Policy.NONE, "arm64"),
    Machine("6.12", 4, Policy.NONE, "arm64"),
    Machine("6.18", 4, Policy.NONE, "arm64"),
    Machine("7.x", 4, Policy.PT_RECLAIM, "arm64"),
    Machine("6.12", 3, Policy.NONE, "arm64-16k"),
)
ON_EVERY_RUN = 2
