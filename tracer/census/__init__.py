# SPDX-License-Identifier: GPL-2.0-only
"""The real page tables, read exactly through BPF or counted from pagemap."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shadow.errors import PtescopeError
from shadow.geometry import Geometry
from shadow.table.page_set import Pages, Ranges
from tracer.census.bpf_reader import ExactReader
from tracer.census.pagemap_reader import CountedReader
from tracer.census.result import Census
from tracer.process.target import Target

__all__ = ("Census", "CountedReader", "ExactReader", "Reader", "open_reader")


class Reader(Protocol):
    """A way to read the page tables of a process while it runs.

    Attributes:
        exact: whether it finds empty PTE pages with their addresses.
        why: how it reads, or why it cannot read exactly.
    """

    exact: bool
    why: str

    @property
    def direct_map(self) -> int | None:
        """Kernel address at which physical address 0 is mapped; None: unknown."""

    def vmas(self, target: Target) -> npt.NDArray[np.void]:
        """The current VMAs, (n,) of `VMA`, sorted; raises as `pages` does."""

    def space(self, target: Target) -> int:
        """Kernel address of the mm_struct; 0: the process has none, or the address is unknown."""

    def pages(
        self,
        target: Target,
        vmas: npt.NDArray[np.void],
        *,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Pages:
        """The PTE pages of a process with their entries.

        Args:
            target: the process.
            vmas: (n,) of `VMA`: the VMAs of the process.
            within: read only the slots that overlap these ranges; None: all slots.
            between: called between the batches of a long reading.

        Raises:
            NoSuchTargetError: the process has ended.
            OSError: the process has ended, or /proc may not be read.
        """

    def census(self, target: Target) -> Census:
        """Count the page tables; raises as `pages` does."""

    def page_table_kib(self, targets: Collection[Target]) -> dict[int, int]:
        """VmPTE of many processes in one reading, KiB by pid, for those that it works for."""

    def forget(self, target: Target) -> None:
        """Drop what is cached of a process that is no longer followed."""

    def close(self) -> None:
        """Release all resources."""


def open_reader(geometry: Geometry) -> Reader:
    """Open the exact reader or, if this host does not allow it, the counted one.

    Args:
        geometry: the page tables of the running kernel.
    """
    try:
        return ExactReader(geometry)
    except (PtescopeError, OSError) as error:
        return CountedReader(geometry, str(error))
