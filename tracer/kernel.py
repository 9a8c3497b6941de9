# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the running kernel, found by experiments.

Version numbers say little, because distributions backport changes. So ptescope provokes the
behaviour in its own process and reads the result from /proc.
"""

import ctypes
import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shadow.errors import UnsupportedHostError
from shadow.geometry import MODELLED, Geometry
from shadow.policy import Policy
from shadow.snapshot import Kernel
from tracer.arch import ARCHITECTURES
from tracer.page_size import PAGE, PAGE_KIB
from tracer.procfs import parse_maps, vm_pte_kib

__all__ = (
    "THP",
    "KernelFacts",
    "kernel_facts",
    "lockdown",
    "stack_is_nohuge",
)

_THP_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
THP = {"never": 0, "madvise": 1, "always": 2}
"""Settings of transparent huge pages as numbers, for `Counter.THP`."""

_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")

_TRIED_SLOTS = 16
_MAP_NORESERVE = 0x4000
"""It is needed where slots are large: the memory is never used."""
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_MAP_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True)
class KernelFacts:
    """The running kernel.

    Attributes:
        release: the release from uname.
        policy: when the kernel frees empty PTE pages.
        geometry: the shape of its page tables.
        thp: the setting of transparent huge pages, a key of `THP`.
        mthp: sizes of multi-size THP in KiB, by setting, a key of `THP`.
        max_map_count: vm.max_map_count, the limit on mappings of a process.
    """

    release: str
    policy: Policy
    geometry: Geometry
    thp: str
    mthp: dict[str, tuple[int, ...]]
    max_map_count: int

    def stated(self, seed: str, probes: Mapping[str, list[str]] | None = None) -> Kernel:
        """The kernel as snapshots have it; for `seed` and `probes` see there."""
        return Kernel(
            release=self.release,
            policy=self.policy.label,
            levels=self.levels,
            page_size=self.geometry.page,
            seed=seed,
            probes=dict(probes or {}),
            arch=self.geometry.arch,
            user_address_bits=self.geometry.user_address_bits,
        )

    @property
    def levels(self) -> int:
        """Number of page-table levels."""
        return self.geometry.levels


def lockdown() -> str:
    """The lockdown mode: none, integrity, or confidentiality (security/lockdown/lockdown.c).

    In confidentiality mode, BPF may not read kernel memory, so probes and page reader fail.
    """
    try:
        found = re.search(r"\[(\w+)\]", _LOCKDOWN.read_text())
    except OSError:
        return "none"
    return found[1] if found else "none"


def _maps_at(address: int) -> bool:
    """Whether memory can be mapped at this address or above; the kernel takes it as a hint."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    found = libc.mmap(address, PAGE, 0, flags, -1, 0)
    if found is None or found == _MAP_FAILED:
        return False
    libc.munmap(ctypes.c_void_p(found), ctypes.c_size_t(PAGE))
    return bool(found >= address)


def _geometry() -> Geometry:
    """The shape of page tables, by the architecture, the page size, and the highest addresses.

    Raises:
        UnsupportedHostError: ptescope does not model page tables like these.
    """
    machine = os.uname().machine
    arch = ARCHITECTURES[machine].name if machine in ARCHITECTURES else None
    alike = [each for each in MODELLED if (each.arch, each.page) == (arch, PAGE)]
    for each in sorted(alike, key=lambda each: each.user_bytes):
        if not _maps_at(each.user_bytes):
            return each
    modelled = "; ".join(each.name for each in MODELLED)
    beyond = " and longer addresses than ptescope knows" if alike else ""
    raise UnsupportedHostError(
        f"This host is {machine} with pages of {PAGE} bytes{beyond}; ptescope supports only the "
        f"page tables of: {modelled}."
    )


def stack_is_nohuge() -> bool:
    """Whether MAP_STACK prevents huge pages, as MADV_NOHUGEPAGE does, and so affects merging.

    Linux kernel commit c4608d1bf7c6 "mm: mmap: map MAP_STACK to VM_NOHUGEPAGE" (in v6.7).
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_STACK
    with mmap.mmap(-1, PAGE, flags) as area:
        view = ctypes.c_char.from_buffer(area)
        place = ctypes.addressof(view)
        del view
        smaps = parse_maps(Path("/proc/self/smaps").read_text(errors="replace"))
        return any("nh" in each.flags for each in smaps if each.start <= place < each.end)


def _frees(area: mmap.mmap, slots: range, length: int) -> bool:
    """Whether the PTE pages of these slots go when MADV_DONTNEED empties them.

    Each slot gets one page, and one call of this length empties the slot.
    """
    for slot in slots:
        area[slot] = 1
    before = vm_pte_kib("self")
    for slot in slots:
        area.madvise(mmap.MADV_DONTNEED, slot, length)
    freed = (before - vm_pte_kib("self")) // PAGE_KIB
    # The heap may grow by one or two PTE pages meanwhile, and a kernel may miss one.
    return freed > len(slots) // 2


def _policy(slot_bytes: int) -> Policy:
    """The policy, by whether calls that cover a slot free its PTE page, or all that empty it.

    `pt_reclaim` since Linux kernel commit 6375e95f381e "mm: pgtable: reclaim empty PTE page in
    madvise(MADV_DONTNEED)" (in v6.14). `dontneed_zero` does not ask for the whole slot.

    Args:
        slot_bytes: the size of a slot.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    with mmap.mmap(-1, (_TRIED_SLOTS + 1) * slot_bytes, flags) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        view = ctypes.c_char.from_buffer(area)
        first = -ctypes.addressof(view) % slot_bytes
        del view
        slots = range(first, first + _TRIED_SLOTS * slot_bytes, slot_bytes)
        if _frees(area, slots, mmap.PAGESIZE):
            return Policy.DONTNEED_ZERO
        return Policy.PT_RECLAIM if _frees(area, slots, slot_bytes) else Policy.NONE


def _chosen(setting: str) -> str:
    match = re.search(r"\[(\w+)\]", setting)
    return match[1] if match else "never"


def _mthp(top: str, slot_bytes: int) -> dict[str, tuple[int, ...]]:
    """Sizes of multi-size THP below a slot by setting; "inherit" stands for `top`.

    Documentation/admin-guide/mm/transhuge.rst.
    """
    sizes: dict[str, list[int]] = {"always": [], "madvise": [], "never": []}
    for path in _THP_ENABLED.parent.glob("hugepages-*kB/enabled"):
        kib = int(path.parent.name.removeprefix("hugepages-").removesuffix("kB"))
        chosen = _chosen(path.read_text())
        if kib * 1024 < slot_bytes:
            sizes[top if chosen == "inherit" else chosen].append(kib)
    return {where: tuple(sorted(found)) for where, found in sizes.items()}


def kernel_facts() -> KernelFacts:
    """Find the facts about the running kernel.

    Raises:
        UnsupportedHostError: the host has other page tables than `MODELLED`, or hides its pids.
    """
    geometry = _geometry()
    if Path("/proc/self/ns/pid").stat().st_ino != _INITIAL_PID_NAMESPACE:
        raise UnsupportedHostError(
            "ptescope runs in a pid namespace, but BPF reports the pids of the host. "
            "Run ptescope on the host, or in a container started with --pid=host."
        )
    thp = _chosen(_THP_ENABLED.read_text()) if _THP_ENABLED.exists() else "never"
    return KernelFacts(
        release=os.uname().release,
        policy=_policy(geometry.slot),
        geometry=geometry,
        thp=thp,
        mthp=_mthp(thp, geometry.slot),
        max_map_count=int(_MAX_MAP_COUNT.read_text()),
    )
