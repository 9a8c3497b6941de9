# SPDX-License-Identifier: GPL-2.0-only
"""The first facts of a session: the process, the kernel, and limits on accuracy."""

import time
from collections.abc import Mapping
from socket import gethostname

from shadow.records import Facts
from shadow.table.state import HugePages
from tracer.census import Reader
from tracer.kernel import THP, KernelFacts
from tracer.process.target import Target

__all__ = ("first_facts",)

_MTHP_NOTE = (
    "Multi-size THP is on: ptescope assumes that a fault fills the largest size that fits. "
    "If memory is short, a fault fills fewer entries, which only an audit finds."
)


def _huge_pages(kernel: KernelFacts) -> HugePages:
    def orders(where: str) -> int:
        return sum(kib * 1024 // kernel.geometry.page for kib in kernel.mthp[where])

    return HugePages(THP[kernel.thp], orders("always"), orders("madvise"))


def first_facts(
    target: Target, kernel: KernelFacts, probes: Mapping[str, list[str]], reader: Reader
) -> Facts:
    """Collect the facts that are known before the page tables are read.

    Args:
        target: the process.
        kernel: the running kernel.
        probes: the sources of events that are attached, by back end.
        reader: reads the page tables.

    Raises:
        OSError: the process has ended.
    """
    huge = HugePages() if target.thp_disabled() else _huge_pages(kernel)
    notes = []
    if not reader.exact:
        notes.append(f"Page tables are counted, not read: {reader.why}")
    if huge.always or huge.madvise:
        notes.append(_MTHP_NOTE)
    return Facts(
        process=target.identify(),
        kernel=kernel.stated("none", probes),
        huge=huge,
        max_map_count=kernel.max_map_count,
        host=gethostname(),
        start_ns=time.monotonic_ns(),
        wall_ns=time.time_ns(),
        notes=tuple(notes),
    )
