# SPDX-License-Identifier: GPL-2.0-only
"""Read from /proc/PID/pagemap which entries of a process are not none.

pagemap has the addresses of entries, but not of empty PTE pages. PAGEMAP_SCAN (Linux kernel commit
52526ca7fdb9 "fs/proc/task_mmu: implement IOCTL to get and optionally clear info about PTEs", in
v6.7) skips absent entries. Without it, the module reads pagemap entry by entry, VMA by VMA, which
takes 8 bytes for each page of address space.

Neither shows entries of VM_PFNMAP mappings (device memory, vvar).
"""

import errno
import fcntl
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shadow.table.state import HUGE_ANON, HUGE_FILE
from shadow.table.vma import VmaFlag
from tracer.page_size import PAGE, PAGE_SHIFT
from tracer.procfs import read_living

__all__ = ("Runs", "read_runs")

# include/uapi/linux/fs.h; the headers of some distributions lack it
_SCAN_ARG = struct.Struct("<12Q")
_PAGEMAP_SCAN = 3 << 30 | _SCAN_ARG.size << 16 | ord("f") << 8 | 16
_FILE, _PRESENT, _SWAPPED, _HUGE = 1 << 2, 1 << 3, 1 << 4, 1 << 6
_REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])
_REGIONS_PER_CALL = 4096

_PM_PRESENT = np.uint64(1 << 63)
_PM_SWAP = np.uint64(1 << 62)
_PAGES_PER_READ = 1 << 18


@dataclass(frozen=True)
class Runs:
    """Runs of entries that are not none, ascending.

    `start` and `end`: (n,) int64, bytes. `huge`: (n,) uint8, 0 for entries of
    PTE pages, HUGE_ANON or HUGE_FILE for leaf PMDs.
    """

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    huge: npt.NDArray[np.uint8]

    def entries(self) -> int:
        """Number of entries in PTE pages."""
        small = self.huge == 0
        return int((self.end[small] - self.start[small]).sum()) >> PAGE_SHIFT


def _without_hugetlb(runs: Runs, vmas: npt.NDArray[np.void]) -> Runs:
    """Remove hugetlb mappings, which have no PTE pages and no deposits."""
    tlb = vmas[vmas["flags"] & VmaFlag.HUGETLB != 0]
    if len(tlb) == 0:
        return runs
    at = np.searchsorted(tlb["start"], runs.start, side="right") - 1
    keep = (at < 0) | (runs.start >= tlb["end"][at])
    return Runs(runs.start[keep], runs.end[keep], runs.huge[keep])


def _scan(fd: int, limit: int, between: Callable[[], object]) -> Runs:
    """PAGEMAP_SCAN over all of user space."""
    regions = np.zeros(_REGIONS_PER_CALL, _REGION)
    wanted = _PRESENT | _SWAPPED
    parts, at = [], 0
    while at < limit:
        room = (regions.ctypes.data, len(regions), 0)
        masks = (0, 0, wanted, _HUGE | _FILE)
        arg = bytearray(_SCAN_ARG.pack(_SCAN_ARG.size, 0, at, limit, 0, *room, *masks))
        found = fcntl.ioctl(fd, _PAGEMAP_SCAN, arg)
        parts.append(regions[:found].copy())
        # The kernel collects 512 regions at a time, and walk_end stays where it was last full
        # (seen on 6.18): later regions lie behind it, and would be found again.
        (walk_end,) = struct.unpack_from("<Q", arg, 32)
        last_end = int(regions["end"][found - 1]) if found else 0
        at = max(walk_end, last_end, at + PAGE)
        between()
    merged = np.concatenate(parts) if parts else np.zeros(0, _REGION)
    categories = merged["categories"]
    is_file = np.where(categories & np.uint64(_FILE), HUGE_FILE, HUGE_ANON)
    return Runs(
        merged["start"].astype(np.int64),
        merged["end"].astype(np.int64),
        np.where(categories & np.uint64(_HUGE), is_file, 0).astype(np.uint8),
    )


def _read(fd: int, vmas: npt.NDArray[np.void], between: Callable[[], object]) -> Runs:
    """Read entry by entry; a huge page looks like the entries of a PTE page."""
    starts, ends = [], []
    with open(fd, "rb", buffering=0, closefd=False) as file:
        for vma in vmas:
            first, last = int(vma["start"]) >> PAGE_SHIFT, int(vma["end"]) >> PAGE_SHIFT
            for page in range(first, last, _PAGES_PER_READ):
                file.seek(page * 8)
                raw = file.read(8 * min(_PAGES_PER_READ, last - page))
                words = np.frombuffer(raw[: len(raw) & -8], "<u8")
                mapped = words & (_PM_PRESENT | _PM_SWAP) != 0
                edges = np.diff(mapped, prepend=False, append=False).nonzero()[0]
                starts.append(page + edges[0::2])
                ends.append(page + edges[1::2])
                between()
    none = np.zeros(0, np.int64)
    start = np.concatenate(starts or [none]).astype(np.int64) << PAGE_SHIFT
    end = np.concatenate(ends or [none]).astype(np.int64) << PAGE_SHIFT
    return Runs(start, end, np.zeros(len(start), np.uint8))


def read_runs(
    pid: int,
    vmas: npt.NDArray[np.void],
    limit: int,
    between: Callable[[], object] = lambda: None,
    *,
    scan: bool = True,
) -> Runs:
    """Read which entries of a process are not none, while it runs.

    Args:
        pid: the process.
        vmas: (n,) of `VMA`: the VMAs of the process.
        limit: first address above user space, bytes.
        between: called between the parts of a long reading.
        scan: whether to try PAGEMAP_SCAN first.

    Raises:
        OSError: pagemap cannot be read, or the process has ended.
    """
    with read_living(pid, lambda task: (task / "pagemap").open("rb")) as file:
        fd = file.fileno()
        if scan:
            try:
                return _without_hugetlb(_scan(fd, limit - PAGE, between), vmas)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
        return _without_hugetlb(_read(fd, vmas, between), vmas)
