# SPDX-License-Identifier: GPL-2.0-only
"""The description of an architecture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ("Architecture", "NEW_CALLS")

NEW_CALLS = {
    "io_uring_setup": 425,
    "io_uring_register": 427,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "openat2": 437,
    "process_madvise": 440,
    "set_mempolicy_home_node": 450,
    "map_shadow_stack": 453,
    "mseal": 462,
}
"""Calls since v5.1, which all architectures number alike."""


@dataclass(frozen=True)
class Architecture:
    """An architecture, as the tracer needs it.

    Attributes:
        name: the name in traces, as in `shadow.geometry`.
        machine: the name that uname has for it.
        probes: the file of the BPF C with its registers and entries.
        call_prefix: what the names of the kernel's functions for system calls begin with.
        compat_prefix: likewise for 32-bit calls of 64-bit programs; None: it has none.
        calls: the numbers of the system calls that ptescope traces or makes, by name.
        optional_calls: those that a kernel may lack although others change the same things.
        fault_tracepoints: the raw tracepoints of page faults, user and kernel mode; none: it
            has none.
        compat_member: the member of a task's thread_info that shows a 32-bit call or program.
        offsets: what the BPF C assumes of the kernel's structures, by member.
        direct_map_step: the kernel maps physical memory at a multiple of so many bytes.
        key_bits: bits of a protection key in vm_flags, from bit 32 on, if the kernel has them.
        elf_machine: the name that ELF has for it.
        returned_number: the number that a function returns which does nothing else, by the
            first 16 bytes of its machine code; None: it does something else.
        stacks: whether ptescope unwinds stacks of user code.
    """

    name: str
    machine: str
    probes: str
    call_prefix: str
    compat_prefix: str | None
    calls: Mapping[str, int]
    optional_calls: frozenset[str]
    fault_tracepoints: tuple[str, str] | None
    compat_member: str
    offsets: Mapping[str, int]
    direct_map_step: int
    key_bits: int
    elf_machine: str
    returned_number: Callable[[bytes], int | None]
    stacks: bool
