# SPDX-License-Identifier: GPL-2.0-only
"""Names of mappings out of /proc/PID/maps, tied to the VMAs that the shadow has."""

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from shadow.mapping_names import FileName, MappingKind, MappingNames
from tracer.page_size import PAGE_SHIFT
from tracer.process.object_ids import label_of
from tracer.procfs import MapsLine

__all__ = ("mapping_names",)

_HEAP = "[heap]"
_KINDS = (
    (re.compile(r"/memfd:"), MappingKind.MEMFD),
    (re.compile(r"/SYSV[0-9a-f]{8}"), MappingKind.SYSV_SHM),
    (re.compile(r"/dev/shm/"), MappingKind.POSIX_SHM),
    (re.compile(r"/dev/zero \(deleted\)$|\[anon_shmem:"), MappingKind.SHARED_ANONYMOUS),
    (re.compile(r"/anon_hugepage"), MappingKind.HUGETLB),
    (re.compile(r"/\[aio\]"), MappingKind.OTHER),
    (re.compile(r"/dev/"), MappingKind.DEVICE),
    (re.compile(r"/"), MappingKind.FILE),
    (re.compile(r"\["), MappingKind.VDSO),
)
"""By the beginning of a name, as fs/proc/task_mmu.c and those who make such files write it."""


def _file_name(line: MapsLine) -> FileName:
    kind = next((kind for form, kind in _KINDS if form.match(line.name)), MappingKind.OTHER)
    if kind == MappingKind.VDSO:  # the kernel's own mappings, which have no file
        return FileName(kind, line.name)
    major, minor = line.device
    return FileName(kind, line.name, f"{major}:{minor}", line.inode)


def mapping_names(lines: Iterable[MapsLine], vmas: npt.NDArray[np.void], brk: int) -> MappingNames:
    """What these lines say of these VMAs.

    A line belongs to the VMA that has its first address, if both have the same page of the
    same sort of mapping there. The VMAs may have been split or merged in between.

    Args:
        lines: of the maps file, ascending.
        vmas: (n,) of `VMA`, sorted; they were read before or after, or followed by events.
        brk: the program break, or where the heap will begin.
    """
    files: dict[int, FileName] = {}
    labels: dict[int, str] = {}
    heap = 0
    starts = vmas["start"]
    for line in lines:
        heap = line.start if line.name == _HEAP and not heap else heap
        if label := label_of(line.name):
            known = labels.get(label)
            # Two names may have the same hash: then neither is known.
            labels[label] = line.name if known in (None, line.name) else "[anon:?]"
        at = int(np.searchsorted(starts, line.start, side="right")) - 1
        if at < 0 or line.start >= vmas["end"][at] or vmas["file"][at] == 0:
            continue
        if line.is_file:
            page = int(vmas["pgoff"][at]) + ((line.start - int(starts[at])) >> PAGE_SHIFT)
            if page == line.offset >> PAGE_SHIFT:
                files[int(vmas["file"][at])] = _file_name(line)
        elif line.name.startswith("[") and line.name != _HEAP:
            files[int(vmas["file"][at])] = _file_name(line)
    return MappingNames(files, labels, heap or brk)
