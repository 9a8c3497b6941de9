# SPDX-License-Identifier: GPL-2.0-only
"""Convert lines of maps or smaps to VMAs of the shadow."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from shadow.table.vma import VMA, LabelPart, VmaFlag
from tracer.page_size import PAGE_SHIFT
from tracer.process.object_ids import label_of
from tracer.procfs import MapsLine

__all__ = ("vma_rows",)

_NO_CACHE = re.compile(r"/dev/|/memfd:|/SYSV|/anon_hugepage")
"""Path prefixes of mapped files that are devices or shared memory."""
_OF_THE_KERNEL = ("[vdso]", "[vvar]", "[vvar_vclock]")
_FLAGS = {
    "ht": VmaFlag.HUGETLB,
    "hg": VmaFlag.HUGEPAGE,
    "nh": VmaFlag.NOHUGEPAGE,
    "gd": VmaFlag.GROWSDOWN,
    "lo": VmaFlag.LOCKED,
    "dc": VmaFlag.DONTFORK,
    "wf": VmaFlag.WIPEONFORK,
    "nr": VmaFlag.NORESERVE,
}
"""VmFlags of smaps."""
_PROT = ((1, VmaFlag.READ), (2, VmaFlag.WRITE), (4, VmaFlag.EXEC))


def _flags_of(mapping: MapsLine) -> int:
    flags: int = sum(flag for bit, flag in _PROT if mapping.prot & bit)
    flags |= sum(_FLAGS.get(name, 0) for name in mapping.flags)
    if mapping.shared:
        flags |= VmaFlag.SHARED
    elif mapping.prot & 2:
        flags |= VmaFlag.ACCOUNT
    if mapping.name == "[stack]":
        flags |= VmaFlag.GROWSDOWN
    flags |= label_of(mapping.name) << LabelPart.NAME
    if mapping.name.startswith("/SYSV"):
        flags |= VmaFlag.SPECIAL
    if mapping.name.startswith("/") and not _NO_CACHE.match(mapping.name):
        flags |= VmaFlag.CACHED
    return flags


def vma_rows(mappings: Iterable[MapsLine]) -> npt.NDArray[np.void]:
    """(n,) of `VMA`, sorted; mappings of the same file have the same positive `file`."""
    files: dict[tuple[tuple[int, int], int, str], int] = {}
    rows = []
    for mapping in mappings:
        file, offset = 0, mapping.start
        if mapping.is_file or mapping.name in _OF_THE_KERNEL:
            key = mapping.device, mapping.inode, mapping.name
            file, offset = files.setdefault(key, len(files) + 1), mapping.offset
        row = (mapping.start, mapping.end, _flags_of(mapping), file, offset >> PAGE_SHIFT, 0)
        rows.append(row)
    return np.array(rows, VMA)
