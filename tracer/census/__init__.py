# SPDX-License-Identifier: GPL-2.0-only
"""Real page tables, read exactly through BPF or counted from pagemap."""

from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shadow.errors import PtescopeError
from shadow.table import Pages, Ranges
from tracer.census.bpf_reader import ExactReader
from tracer.census.pagemap_reader import CountedReader
from tracer.census.result import Census
from tracer.process.target import Target

__all__ = ("Census", "CountedReader", "ExactReader", "Reader", "open_reader")


class Reader(Protocol):
    """A way to read the page tables of a process while it runs.

    Attributes:
        exact: whether empty PTE pages are seen, with their addresses.
        why: how it reads, or why not exactly.
    """

    exact: bool
    why: str

    def vmas(self, target: Target) -> npt.NDArray[np.void]:
        """(n,) of `VMA`: its VMAs now, sorted; raises as `pages` does."""

    def space(self, target: Target) -> int:
        """Kernel address of its mm_struct; 0: it has none, or it is not known."""

    def pages(
        self,
        target: Target,
        vmas: npt.NDArray[np.void],
        *,
        within: Ranges | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Pages:
        """The PTE pages of a process with their maps.

        Args:
            target: the process.
            vmas: (n,) of `VMA`: its VMAs.
            within: only the slots that overlap these ranges need be read; None: all.
            between: called between batches of a long reading.

        Raises:
            NoSuchTargetError: the process has ended.
            OSError: likewise, or /proc may not be read.
        """

    def census(self, target: Target) -> Census:
        """Its page tables in numbers; raises as `pages` does."""

    def page_table_kib(self, targets: Collection[Target]) -> dict[int, int]:
        """VmPTE of many processes at once, KiB by pid; only those of which it can be had so."""

    def forget(self, target: Target) -> None:
        """This process is not followed any more."""

    def close(self) -> None:
        """Give up what is held open."""


def open_reader(levels: int) -> Reader:
    """The exact reader, or the counted one where the exact one cannot be had.

    Args:
        levels: page-table levels of the running kernel.
    """
    try:
        return ExactReader(levels)
    except (PtescopeError, OSError) as error:
        return CountedReader(levels, str(error))
