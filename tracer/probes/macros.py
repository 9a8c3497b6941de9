# SPDX-License-Identifier: GPL-2.0-only
"""The macros of the BPF C: offsets in this kernel's structures, numbers of events, the geometry."""

import mmap
from collections.abc import Mapping

from shadow import events
from shadow.call_rules import DEFINES as CALL_RULE_MACROS
from shadow.errors import UnsupportedHostError
from shadow.events import Doubt, Kind, Label
from shadow.geometry import Geometry
from tracer.arch import Architecture, running
from tracer.bpf.btf import Btf
from tracer.kernel import stack_is_nohuge

__all__ = ("macros", "macros_of_stacks")

_MEMBERS = {
    "TASK_TGID": "task_struct.tgid",
    "TASK_MM": "task_struct.mm",
    "TASK_SIGNAL": "task_struct.signal",
    "SIGNAL_LIVE": "signal_struct.live",
    "TASK_FILES": "task_struct.files",
    "FILES_FDT": "files_struct.fdt",
    "FDTABLE_FD": "fdtable.fd",
    "FDTABLE_MAX_FDS": "fdtable.max_fds",
    "FILE_INODE": "file.f_inode",
    "FILE_PRIVATE": "file.private_data",
    "INODE_PRIVATE": "inode.i_private",
    "INODE_MODE": "inode.i_mode",
    "INODE_SB": "inode.i_sb",
    "SUPER_MAGIC": "super_block.s_magic",
    "PID_NUMBERS": "pid.numbers",
    "TASK_THREAD": "task_struct.thread_info",
}
_OPTIONAL = {
    "MMU_GATHER_MM": ("mmu_gather.mm",),
    "VMA_MM": ("vm_area_struct.vm_mm",),
    "VMA_END": ("vm_area_struct.vm_end",),
    "FOLIO_PAGES": ("folio._nr_pages", "folio._folio_nr_pages"),
    "FOLIO_MAPPING": ("folio.mapping",),
    "PG_HEAD": ("PG_head",),
    "PG_SWAPBACKED": ("PG_swapbacked",),
    "INODE_MAPPING": ("inode.i_mapping",),
    "INODE_NUMBER": ("inode.i_ino",),
    "SPACE_MMAP": ("address_space.i_mmap",),
    "SUPER_DEVICE": ("super_block.s_dev",),
    "UFFD_MM": ("userfaultfd_ctx.mm",),
    "ITER_TYPE": ("iov_iter.iter_type",),
    "ITER_SOURCE": ("iov_iter.data_source",),
    "ITER_OFFSET": ("iov_iter.iov_offset",),
    "ITER_COUNT": ("iov_iter.count",),
    "ITER_UBUF_AT": ("iov_iter.ubuf",),
    "ITER_IOV": ("iov_iter.__iov", "iov_iter.iov"),
    "ITER_IS_UBUF": ("ITER_UBUF",),
    "ITER_IS_IOVEC": ("ITER_IOVEC",),
    "IOCB_FILE": ("kiocb.ki_filp",),
    "IOCB_POS": ("kiocb.ki_pos",),
    "URING_OPCODE": ("io_kiocb.opcode",),
    "URING_CQE": ("io_kiocb.cqe",),
    "URING_CQE_FD": ("io_cqe.fd",),
    "URING_ADDRESS": ("io_madvise.addr",),
    "URING_LENGTH": ("io_madvise.len",),
    "MM_PGD": ("mm_struct.pgd",),
}
"""BTF names that only some sources need: members and enumerators, newest name first."""

_OF_EVENTS = (
    *("MAP_FLAGS_SHIFT", "DISCARDED", "DEFERRED", "SPECIAL", "NOT_CACHED", "PKEY_SHIFT"),
    *("FILE_TRUNCATED", "FILE_HOLE", "LABEL_BITS"),
    *("NAME_BITS", "POLICY_BITS", "USERFAULT_BITS"),
)
"""Macros that `shadow.events` defines."""


def macros(
    btf: Btf, geometry: Geometry, ring_bytes: int, most_targets: int
) -> tuple[dict[str, int], list[str]]:
    """The macros of the BPF C, and the names of those without a value on this kernel.

    Args:
        btf: BTF of the running kernel.
        geometry: its page tables.
        ring_bytes: size of the ring, a power of two.
        most_targets: the maximum number of traced processes.

    Raises:
        UnsupportedHostError: this kernel lacks a member that all sources need.
    """
    arch = running()
    needed = btf.require([*_MEMBERS.values(), arch.compat_member, *arch.offsets])
    _check(needed, arch)
    names = [name for alternatives in _OPTIONAL.values() for name in alternatives]
    known = btf.offsets([name for name in names if "." in name])
    known |= btf.enumerators([name for name in names if "." not in name])
    defines, unknown = {macro: needed[member] for macro, member in _MEMBERS.items()}, []
    for macro, alternatives in _OPTIONAL.items():
        values = [known[name] for name in alternatives if name in known]
        defines[macro] = values[0] if values else 0
        unknown += [] if values else [macro]
    defines["COMPAT_WORD"] = defines["TASK_THREAD"] + needed[arch.compat_member]
    defines["URING_FD"] = defines["URING_CQE"] + defines["URING_CQE_FD"]
    if {"URING_CQE", "URING_CQE_FD"} & set(unknown):
        unknown.append("URING_FD")
    defines |= {f"KIND_{kind.name}": kind.value for kind in Kind}
    defines |= {f"DOUBT_{doubt.name}": doubt.value for doubt in Doubt}
    defines |= {f"LABEL_{label.name}": label.value for label in Label}
    defines |= {name: getattr(events, name) for name in _OF_EVENTS}
    defines |= CALL_RULE_MACROS
    defines["IGNORED_MAP_FLAGS"] = 0 if stack_is_nohuge() else mmap.MAP_STACK
    defines["RING_PAGES"] = ring_bytes // mmap.PAGESIZE
    defines["MAX_TARGETS"] = most_targets
    defines["USER_LIMIT"] = geometry.user_bytes
    defines["PAGE_SHIFT"] = geometry.page_shift
    defines["SLOT_SHIFT"] = geometry.slot_shift
    return defines, unknown


def macros_of_stacks(geometry: Geometry, ring_bytes: int) -> dict[str, int]:
    """The macros of programs that take user stacks.

    Args:
        geometry: the page tables of the running kernel.
        ring_bytes: size of the ring of stacks, a power of two; 0: the smallest.
    """
    return {
        "WITH_STACKS": 1,
        "STACK_RING_PAGES": max(ring_bytes // mmap.PAGESIZE, 1),
        "LEVELS": geometry.levels,
        "ENTRY_BITS": geometry.entry_bits,
    }


def _check(offsets: Mapping[str, int], arch: Architecture) -> None:
    """Check what the BPF C assumes of the registers."""
    for member, expected in arch.offsets.items():
        if offsets[member] != expected:
            raise UnsupportedHostError(
                f"This kernel has {member} at {offsets[member]}, and the probes expect it at "
                f"{expected}; they need a newer ptescope."
            )
