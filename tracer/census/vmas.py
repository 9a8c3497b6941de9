# SPDX-License-Identifier: GPL-2.0-only
"""VMAs from the kernel's tree, with the flags, names, policies and anon_vmas that decide merging.

/proc/PID/maps has the boundaries of VMAs. smaps has some of the other attributes that decide
merging, but walks all page tables for them. So this module reads the tree of VMAs through BPF
without a lock, as other modules read page tables. A VMA of the tree counts if /proc/PID/maps
has the same boundaries.

Sources: include/linux/maple_tree.h, lib/maple_tree.c (mas_logical_pivot), since v6.1;
include/linux/mm.h (VM_*), mm/vma.c (is_mergeable_vma).
"""

import ctypes
import errno

import numpy as np
import numpy.typing as npt

from shadow.table.vma import NO_ANON, LabelPart, VmaFlag
from tracer.arch import running
from tracer.bpf.btf import kernel_btf
from tracer.census.kernel_memory import KernelMemory, Words
from tracer.process.object_ids import identities, name_hash, policy_hash, userfaultfd_hash

__all__ = ("VmaTree", "key_mask")

_NODE_WORDS = 32
_NODE_MASK = np.uint64(255)
_TYPE_SHIFT, _TYPE_MASK = np.uint64(3), np.uint64(15)
_LEAF, _RANGE, _ARANGE = 1, 2, 3
_PIVOTS = {_LEAF: 15, _RANGE: 15, _ARANGE: 9}
_KERNEL = np.uint64(1 << 63)
_MOST_LEVELS = 16
_NAME_WORDS = 12
_NAME_BYTES = 80
_AFTER_KREF = 4
_USER_FLAGS_OF_POLICY = 0xE000  # MPOL_MODE_FLAGS, include/uapi/linux/mempolicy.h

_MEMBERS = {
    "mm_mt": "mm_struct.mm_mt",
    "root": "maple_tree.ma_root",
    "start": "vm_area_struct.vm_start",
    "end": "vm_area_struct.vm_end",
    "flags": "vm_area_struct.vm_flags",
    "pgoff": "vm_area_struct.vm_pgoff",
    "file": "vm_area_struct.vm_file",
    "anon_vma": "vm_area_struct.anon_vma",
    "chain": "vm_area_struct.anon_vma_chain",
}
_OPTIONAL = {
    "name": "vm_area_struct.anon_name",
    "policy": "vm_area_struct.vm_policy",
    "userfaultfd": "vm_area_struct.vm_userfaultfd_ctx",
    "nodes": "mempolicy.nodes",
    "mode": "mempolicy.mode",
}
_FLAGS = {
    0x100: VmaFlag.GROWSDOWN,
    0x200: VmaFlag.UFFD_MISSING,
    0x1000: VmaFlag.UFFD_WP,
    0x2000: VmaFlag.LOCKED,
    0x8000: VmaFlag.SEQUENTIAL,
    0x10000: VmaFlag.RANDOM,
    0x20000: VmaFlag.DONTFORK,
    0x80000: VmaFlag.LOCKONFAULT,
    0x100000: VmaFlag.ACCOUNT,
    0x200000: VmaFlag.NORESERVE,
    0x400000: VmaFlag.HUGETLB,
    0x2000000: VmaFlag.WIPEONFORK,
    0x4000000: VmaFlag.DONTDUMP,
    0x20000000: VmaFlag.HUGEPAGE,
    0x40000000: VmaFlag.NOHUGEPAGE,
    0x80000000: VmaFlag.MERGEABLE,
    1 << 42: VmaFlag.SEALED,  # bit 63 in v6.10 to v6.16
    1 << 63: VmaFlag.SEALED,
}
"""Bits of vm_flags, the same on all kernels with a maple tree unless noted."""
_SPECIAL = np.uint64(0x400 | 0x4000 | 0x40000 | 0x10000000)  # VM_SPECIAL
_ACCESS = np.uint64(7)
_KEY_SHIFT = np.uint64(32)
_FROM_MAPS = (
    *(VmaFlag.READ, VmaFlag.WRITE, VmaFlag.EXEC, VmaFlag.SHARED),
    *(VmaFlag.CACHED, VmaFlag.SPECIAL),
)


def key_mask() -> int:
    """A mask of the protection key in vm_flags, shifted to bit 0; 0: this kernel has no keys.

    Without CONFIG_ARCH_HAS_PKEYS these bits say other things: on arm64 before v6.12, that memory
    may have tags, which is so for all anonymous memory of processors with MTE.
    """
    arch = running()
    libc = ctypes.CDLL(None, use_errno=True)
    nothing, no_key = ctypes.c_ulong(0), ctypes.c_long(-1)
    failed = libc.syscall(arch.calls["pkey_mprotect"], nothing, nothing, nothing, no_key)
    lacks = failed and ctypes.get_errno() == errno.ENOSYS
    return 0 if lacks else (1 << arch.key_bits) - 1


class VmaTree:
    """Reads the VMAs of any process.

    Args:
        memory: the page reader.

    Attributes:
        readable: whether this module supports the VMA tree of this kernel.
    """

    def __init__(self, memory: KernelMemory) -> None:
        self._memory = memory
        at = kernel_btf().offsets([*_MEMBERS.values(), *_OPTIONAL.values()])
        self.readable = all(member in at for member in _MEMBERS.values())
        names = {**_MEMBERS, **_OPTIONAL}
        self._at = {name: at[member] for name, member in names.items() if member in at}
        self._key_mask = np.uint64(key_mask())

    def _words(self, addresses: Words, offset: int = 0, count: int = 1) -> Words:
        """(n, count) consecutive words at each address plus `offset`; 0 if unreadable."""
        columns = np.uint64(offset) + np.uint64(8) * np.arange(count, dtype=np.uint64)
        return self._memory.words(addresses[:, None] + columns)[0]

    def _vma_pointers(self, mm: int) -> Words:
        """Addresses of the VMAs in the tree, in no order."""
        tree = np.array([mm + self._at["mm_mt"]], np.uint64)
        nodes = self._words(tree, self._at["root"])[:, 0]
        ends = np.full(len(nodes), np.iinfo(np.uint64).max, np.uint64)
        found = [nodes[:0]]
        for _ in range(_MOST_LEVELS):
            below = [(nodes[:0], ends[:0])]
            types = (nodes >> _TYPE_SHIFT & _TYPE_MASK).astype(np.int64)
            for sort, pivots in _PIVOTS.items():
                these = (types == sort) & (nodes >= _KERNEL)
                words = self._words(nodes[these] & ~_NODE_MASK, 0, _NODE_WORDS)
                slots, limits = _children(words, ends[these], pivots)
                if sort == _LEAF:
                    found.append(slots)
                else:
                    below.append((slots, limits))
            nodes, ends = (np.concatenate(parts) for parts in zip(*below, strict=True))
            if not len(nodes):
                break
        pointers = np.concatenate(found)
        kept: Words = pointers[(pointers >= _KERNEL) & (pointers & np.uint64(7) == 0)]
        return kept

    def complete(self, mm: int, vmas: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """Complete VMAs with the attributes that the kernel's tree has.

        Args:
            mm: address of the mm_struct.
            vmas: (n,) of `VMA`, sorted, from /proc/PID/maps.

        Returns:
            The same VMAs; those with equal boundaries in the tree have all attributes.
        """
        pointers = self._vma_pointers(mm)
        starts, ends = (self._words(pointers, self._at[at])[:, 0] for at in ("start", "end"))
        at = np.searchsorted(vmas["start"], starts.astype(np.int64))
        inside = at < len(vmas)
        at[~inside] = 0
        if not len(vmas):
            return vmas
        flags = self._words(pointers, self._at["flags"])[:, 0]
        same = inside & (vmas["start"][at] == starts.astype(np.int64))
        same &= vmas["end"][at] == ends.astype(np.int64)
        same &= (flags & _ACCESS).astype(np.int64) == vmas["flags"][at] & int(_ACCESS)
        whole = vmas.copy()
        pointers, flags, at = pointers[same], flags[same], at[same]
        kept = sum(_FROM_MAPS)
        whole["flags"][at] = vmas["flags"][at] & kept | _vma_flags(flags)
        files = self._words(pointers, self._at["file"])[:, 0]
        # The vdso has no file, but is not anonymous memory.
        whole["file"][at] = np.where(files == 0, vmas["file"][at], identities(files))
        whole["pgoff"][at] = self._words(pointers, self._at["pgoff"])[:, 0].astype(np.int64)
        whole["anon"][at], forked = self._anon_vmas(pointers)
        whole["flags"][at] |= np.where(forked, VmaFlag.FORKED, 0)
        whole["flags"][at] |= self._labels(pointers, flags, files)
        return whole

    def _anon_vmas(self, pointers: Words) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Numbers of the anon_vmas, or NO_ANON, and whether a fork created them."""
        anon = self._words(pointers, self._at["anon_vma"])[:, 0]
        chain = self._words(pointers, self._at["chain"], 2)
        known = np.unique(anon[anon != 0])
        numbers = np.where(anon == 0, NO_ANON, np.searchsorted(known, anon) + 1)
        # list_is_singular: the one link is the first and the last.
        return numbers, (anon != 0) & (chain[:, 0] != chain[:, 1])

    def _pointed(self, pointers: Words, member: str, wanted: npt.NDArray[np.bool_]) -> Words:
        if member not in self._at:
            return np.zeros(len(pointers), np.uint64)
        words = self._words(pointers, self._at[member])[:, 0]
        return np.where(wanted & (words >= _KERNEL), words, np.uint64(0))

    def _labels(self, pointers: Words, flags: Words, files: Words) -> npt.NDArray[np.int64]:
        everywhere = np.ones(len(pointers), np.bool_)
        labels = (flags >> _KEY_SHIFT & self._key_mask).astype(np.int64) << LabelPart.PKEY
        # In v6.1 the name shares a union with the fields of file mappings.
        names = self._pointed(pointers, "name", files == 0)
        for name in np.unique(names[names != 0]):
            labels[names == name] |= self._name(name) << LabelPart.NAME
        policies = self._pointed(pointers, "policy", everywhere)
        for policy in np.unique(policies[policies != 0]):
            labels[policies == policy] |= self._policy(policy) << LabelPart.POLICY
        contexts = self._pointed(pointers, "userfaultfd", everywhere)
        for context in np.unique(contexts[contexts != 0]):
            labels[contexts == context] |= userfaultfd_hash(int(context)) << LabelPart.USERFAULT
        return labels

    def _name(self, place: np.uint64) -> int:
        """Hash of a struct anon_vma_name, which is a kref and a string."""
        first = np.array([int(place) & ~7], np.uint64)
        text = self._words(first, 0, _NAME_WORDS).tobytes()[int(place) & 7 :]
        return name_hash(text[_AFTER_KREF : _AFTER_KREF + _NAME_BYTES].split(b"\0")[0])

    def _policy(self, place: np.uint64) -> int:
        if "nodes" not in self._at or "mode" not in self._at:
            return 0
        here = np.array([place], np.uint64)
        mode_at = self._at["mode"]
        mode_word = int(self._words(here, mode_at & ~7)[0, 0]) >> 8 * (mode_at & 7)
        mode, flags = mode_word & 0xFFFF, mode_word >> 16 & 0xFFFF
        nodes = int(self._words(here, self._at["nodes"])[0, 0])
        return policy_hash(mode | flags & _USER_FLAGS_OF_POLICY, nodes)


def _children(words: Words, ends: Words, pivots: int) -> tuple[Words, Words]:
    """The contents of nodes with `pivots` pivots, and the last address of each entry.

    A pivot of 0 after the first means the end of the node (mas_logical_pivot).
    """
    slots, limits = [words[:0, 0]], [ends[:0]]
    alive = np.ones(len(words), np.bool_)
    for i in range(pivots + 1):
        limit = words[:, 1 + i] if i < pivots else ends
        limit = np.where(limit == 0, ends, limit)
        slot = words[:, 1 + pivots + i]
        taken = alive & (slot != 0)
        slots.append(slot[taken])
        limits.append(limit[taken])
        alive &= limit < ends
    return np.concatenate(slots), np.concatenate(limits)


def _vma_flags(flags: Words) -> npt.NDArray[np.int64]:
    """The `VmaFlag`s that vm_flags contain."""
    known = np.zeros(len(flags), np.int64)
    for bit, flag in _FLAGS.items():
        known |= np.where(flags & np.uint64(bit) != 0, flag, 0)
    special = (flags & _SPECIAL != 0) & (known & VmaFlag.HUGETLB == 0)
    known |= np.where(special, VmaFlag.SPECIAL, 0)
    return known
