# SPDX-License-Identifier: GPL-2.0-only
"""x86-64."""

import re
from types import MappingProxyType

from tracer.arch.description import NEW_CALLS, Architecture

__all__ = ("X86_64",)

_CALLS = {
    "open": 2,
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "ioctl": 16,
    "mremap": 25,
    "madvise": 28,
    "shmget": 29,
    "shmat": 30,
    "shmctl": 31,
    "shmdt": 67,
    "truncate": 76,
    "ftruncate": 77,
    "creat": 85,
    "mlock": 149,
    "munlock": 150,
    "mlockall": 151,
    "munlockall": 152,
    "prctl": 157,
    "io_setup": 206,
    "io_destroy": 207,
    "remap_file_pages": 216,
    "mbind": 237,
    "openat": 257,
    "vmsplice": 278,
    "fallocate": 285,
    "perf_event_open": 298,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "bpf": 321,
    "userfaultfd": 323,
    "mlock2": 325,
    "copy_file_range": 326,
    "pkey_mprotect": 329,
}

_RETURNS_A_NUMBER = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xb8(....)\xc3", re.S)
"""[endbr64] mov imm32, %eax; ret"""


def _returned_number(code: bytes) -> int | None:
    match = _RETURNS_A_NUMBER.match(code)
    return int.from_bytes(match[1], "little") if match else None


X86_64 = Architecture(
    name="x86-64",
    machine="x86_64",
    probes="x86_64",
    call_prefix="__x64_sys_",
    compat_prefix="__ia32_sys_",
    calls=MappingProxyType(_CALLS | NEW_CALLS),
    optional_calls=frozenset(),
    fault_tracepoints=("page_fault_user", "page_fault_kernel"),
    compat_member="thread_info.status",
    offsets=MappingProxyType({}),
    direct_map_step=1 << 30,  # arch/x86/mm/kaslr.c
    key_bits=4,
    elf_machine="EM_X86_64",
    returned_number=_returned_number,
    stacks=True,
)
