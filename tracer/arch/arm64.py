# SPDX-License-Identifier: GPL-2.0-only
"""arm64."""

import struct
from types import MappingProxyType

from tracer.arch.description import NEW_CALLS, Architecture

__all__ = ("ARM64",)

_CALLS = {
    "io_setup": 0,
    "io_destroy": 1,
    "ioctl": 29,
    "truncate": 45,
    "ftruncate": 46,
    "fallocate": 47,
    "openat": 56,
    "vmsplice": 75,
    "prctl": 167,
    "shmget": 194,
    "shmctl": 195,
    "shmat": 196,
    "shmdt": 197,
    "brk": 214,
    "munmap": 215,
    "mremap": 216,
    "mmap": 222,
    "mprotect": 226,
    "mlock": 228,
    "munlock": 229,
    "mlockall": 230,
    "munlockall": 231,
    "madvise": 233,
    "remap_file_pages": 234,
    "mbind": 235,
    "perf_event_open": 241,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "bpf": 280,
    "userfaultfd": 282,
    "mlock2": 284,
    "copy_file_range": 285,
    "pkey_mprotect": 288,
}
"""Those of asm-generic/unistd.h; arm64 never had open and creat."""

_BTI_C, _RET = 0xD503245F, 0xD65F03C0
_MOVZ_W0, _IMMEDIATE = 0x52800000, 0xFFFF << 5


def _returned_number(code: bytes) -> int | None:
    """[bti c] mov w0, #imm16; ret."""
    words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) // 4 * 4])
    move, *end = words[words[:1] == (_BTI_C,) :][:2] or (0,)
    number = move & _IMMEDIATE
    return number >> 5 if move - number == _MOVZ_W0 and end == [_RET] else None


ARM64 = Architecture(
    name="arm64",
    machine="aarch64",
    probes="arm64",
    call_prefix="__arm64_sys_",
    compat_prefix=None,
    calls=MappingProxyType(_CALLS | NEW_CALLS),
    optional_calls=frozenset({"pkey_mprotect"}),  # with FEAT_S1POE only, since v6.12
    fault_tracepoints=None,
    compat_member="thread_info.flags",
    offsets=MappingProxyType({"pt_regs.orig_x0": 272, "pt_regs.syscallno": 280}),
    # ARM64_MEMSTART_ALIGN is 1 GiB with pages of 4 and 16 KiB, and 512 MiB with 64 KiB
    # (arch/arm64/include/asm/kernel-pgtable.h).
    direct_map_step=1 << 29,
    key_bits=3,
    elf_machine="EM_AARCH64",
    returned_number=_returned_number,
    stacks=False,
)
