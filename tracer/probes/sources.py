# SPDX-License-Identifier: GPL-2.0-only
"""The sources of events, each with its methods of attachment, best first.

Probes on functions (fentry and fexit, then kprobe and kretprobe) do not slow down calls of other
processes, and they report the outcome of faults and the allocation and freeing of page tables. A
tracepoint of a system call sends every call of every process through the kernel's slow path. A
raw tracepoint of all system calls also runs a BPF program for each of them. The tracepoints of
faults and of processes have neither drawback and are the cheapest, but those of faults fire only
when a fault begins. arm64 has none of faults; there, a software event of perf counts them.

Which functions can be traced was tested on 6.1, 6.12, 6.18 and 7.3 (reference: vm-matrix,
1); on other kernels ptescope tries them, and `tracer.probes.selftest` checks the result.
"""

from dataclasses import dataclass
from enum import StrEnum

from tracer.arch import running
from tracer.bpf.hook import AttachType, Hook

__all__ = ("SOURCES", "Backend", "Method", "Source")


class Backend(StrEnum):
    """A family of attach types, in the order of preference."""

    FENTRY = "fentry"
    KPROBE = "kprobe"
    TRACEPOINT = "tracepoint"
    RAW_TRACEPOINT = "raw_tracepoint"


@dataclass(frozen=True)
class Method:
    """One way to attach to a source: all its hooks together."""

    backend: Backend
    hooks: tuple[Hook, ...]


@dataclass(frozen=True)
class Source:
    """A source of events.

    Attributes:
        name: the system call, or the kind of event.
        methods: best first.
        needed: whether a shadow is wrong without it; other sources only improve the shadow.
        call: number of the system call, by which the raw tracepoints select it.
        macros: of the BPF C; this kernel's BTF must have their values.
        rare: whether the raw tracepoint's program for rare calls handles it.
    """

    name: str
    methods: tuple[Method, ...]
    needed: bool = True
    call: int | None = None
    macros: tuple[str, ...] = ()
    rare: bool = False


_ARCH = running()

# fmt: off
_CALLS = (
    "madvise", "process_madvise", "munmap", "mmap", "mremap", "brk", "mprotect",
    "pkey_mprotect", "mlock", "mlock2", "munlock", "mlockall", "munlockall",
)
_TAKE_LONG = (
    "madvise", "process_madvise", "munmap", "mmap", "mremap", "brk", "mlock", "mlock2", "mlockall",
)
_RARE = (
    "prctl", "mbind", "set_mempolicy_home_node", "mseal", "shmat", "shmdt", "io_setup",
    "io_destroy", "remap_file_pages", "map_shadow_stack",
)
_PINNING = ("vmsplice", "io_uring_register", "process_vm_readv", "process_vm_writev")
_CUTTING = ("ftruncate", "fallocate")
_OPENING = ("truncate", "open", "openat", "openat2", "creat", "copy_file_range")
_32_BIT = (
    "munmap", "mmap_pgoff", "mprotect", "mremap", "brk", "madvise", "mlock", "munlock",
    "mlockall", "munlockall", "remap_file_pages", "shmdt",
)
# fmt: on
_OF_FILES = ("FILE_INODE", "INODE_MAPPING", "SPACE_MMAP", "SUPER_DEVICE")
_OF_REQUESTS = ("URING_OPCODE", "URING_FD", "URING_ADDRESS", "URING_LENGTH")
_OF_VECTORS = ("ITER_COUNT", "ITER_SOURCE", "ITER_IS_UBUF", "ITER_IS_IOVEC", "IOCB_FILE")


def _call(name: str) -> Source:
    function, begins = f"{_ARCH.call_prefix}{name}", name in _TAKE_LONG
    stem = "process_madvise" if name == "process_madvise" else "call"
    fexit = Hook(AttachType.FEXIT, function, f"{stem}_fexit")
    if name == "madvise":
        fexit = Hook(AttachType.FEXIT, "do_madvise", "madvise_fexit")
    fentry = [Hook(AttachType.FENTRY, function, f"{stem}_fentry")] if begins else []
    raw = [_raw("sys_enter", "call_begin_raw")] if begins else []
    methods = (
        Method(Backend.FENTRY, (*fentry, fexit)),
        Method(
            Backend.KPROBE,
            (
                Hook(AttachType.KPROBE, function, f"{stem}_kprobe"),
                Hook(AttachType.KRETPROBE, function, f"{stem}_kretprobe"),
            ),
        ),
        Method(Backend.TRACEPOINT, _tracepoints(name, stem, begins=begins)),
        Method(Backend.RAW_TRACEPOINT, (*raw, _raw("sys_exit", "call_end_raw"))),
    )
    needed = name not in _ARCH.optional_calls
    return Source(name, methods, needed=needed, call=_ARCH.calls[name])


def _tracepoints(name: str, stem: str, *, begins: bool) -> tuple[Hook, ...]:
    """The tracepoints of a call."""
    entered = Hook(AttachType.TRACEPOINT, f"syscalls:sys_enter_{name}", f"{stem}_begin_tracepoint")
    left = Hook(AttachType.TRACEPOINT, f"syscalls:sys_exit_{name}", f"{stem}_end_tracepoint")
    return (entered, left) if begins else (left,)


def _rare(name: str, stem: str, macros: tuple[str, ...] = (), *, begins: bool = False) -> Source:
    """A call that few programs use."""
    function = f"{_ARCH.call_prefix}{name}"
    fentry = [Hook(AttachType.FENTRY, function, f"{stem}_fentry")] if begins else []
    kprobe = [Hook(AttachType.KPROBE, function, f"{stem}_kprobe")] if begins else []
    raw = [_raw("sys_enter", f"{stem}_begin_raw")] if begins else []
    fexit = Hook(AttachType.FEXIT, function, f"{stem}_fexit")
    kretprobe = Hook(AttachType.KRETPROBE, function, f"{stem}_kretprobe")
    methods = (
        Method(Backend.FENTRY, (*fentry, fexit)),
        Method(Backend.KPROBE, (*kprobe, kretprobe)),
        Method(Backend.TRACEPOINT, _tracepoints(name, stem, begins=begins)),
        Method(Backend.RAW_TRACEPOINT, (*raw, _raw("sys_exit", "rare_end_raw"))),
    )
    number = _ARCH.calls[name]
    return Source(name, methods, needed=False, call=number, macros=macros, rare=True)


def _unseen(name: str, hook: Hook, macros: tuple[str, ...] = ()) -> Source:
    """Events that no system call shows, from a raw tracepoint."""
    return Source(name, (Method(Backend.RAW_TRACEPOINT, (hook,)),), needed=False, macros=macros)


def _32_bit_calls(prefix: str) -> Source:
    """A source for 32-bit calls: their numbers differ, and syscall tracepoints skip them."""
    methods = (
        Method(
            Backend.FENTRY,
            tuple(Hook(AttachType.FEXIT, f"{prefix}{name}", "compat_fexit") for name in _32_BIT),
        ),
        Method(
            Backend.KPROBE,
            tuple(
                Hook(AttachType.KRETPROBE, f"{prefix}{name}", "compat_kretprobe")
                for name in _32_BIT
            ),
        ),
        Method(Backend.RAW_TRACEPOINT, (_raw("ma_write", "compat_tree_raw"),)),
    )
    return Source("32-bit calls", methods, needed=False)


def _functions(name: str, fentry: Hook, *kprobes: Hook, macros: tuple[str, ...] = ()) -> Source:
    """Events that no tracepoint shows, from kernel functions."""
    methods = (Method(Backend.FENTRY, (fentry,)), Method(Backend.KPROBE, kprobes))
    return Source(name, methods, needed=False, macros=macros)


def _returning(function: str, stem: str) -> tuple[Hook, Hook, Hook]:
    """Hooks that see the result of a function."""
    return (
        Hook(AttachType.FEXIT, function, f"{stem}_fexit"),
        Hook(AttachType.KPROBE, function, f"{stem}_kprobe"),
        Hook(AttachType.KRETPROBE, function, f"{stem}_kretprobe"),
    )


def _entered(function: str, stem: str) -> tuple[Hook, Hook]:
    return (
        Hook(AttachType.FENTRY, function, f"{stem}_fentry"),
        Hook(AttachType.KPROBE, function, f"{stem}_kprobe"),
    )


def _raw(name: str, function: str) -> Hook:
    return Hook(AttachType.RAW_TRACEPOINT, name, function)


def _life(name: str) -> Source:
    hook = _raw(f"sched_process_{name}", f"process_{name}_raw")
    return Source(name, (Method(Backend.RAW_TRACEPOINT, (hook,)),))


_FAULT_FEXIT, *_FAULT_KPROBES = _returning("handle_mm_fault", "fault")
_FAULT_NAMES = ("fault_user_raw", "fault_kernel_raw")


def _fault_begins() -> tuple[Hook, ...]:
    """Hooks at the beginning of faults: tracepoints or, without them, perf's count of faults."""
    if _ARCH.fault_tracepoints is None:
        return (Hook(AttachType.SOFTWARE_EVENT, "page-faults", "fault_software"),)
    return tuple(map(_raw, _ARCH.fault_tracepoints, _FAULT_NAMES))


_FAULTS = (
    Method(Backend.FENTRY, (_FAULT_FEXIT,)),
    Method(Backend.KPROBE, tuple(_FAULT_KPROBES)),
    Method(Backend.RAW_TRACEPOINT, _fault_begins()),
)
_OF_FOLIOS = ("VMA_MM", "VMA_END", "FOLIO_PAGES", "FOLIO_MAPPING", "PG_HEAD", "PG_SWAPBACKED")

SOURCES = (
    Source("page fault", _FAULTS),
    *(_call(name) for name in _CALLS),
    *(_rare(name, "rare") for name in _RARE),
    _rare("ioctl", "ioctl", ("UFFD_MM",)),  # userfaultfd
    *(_rare(name, "pins") for name in _PINNING),
    *(_rare(name, "cut", _OF_FILES, begins=True) for name in _CUTTING),
    *(_rare(name, "file_call", _OF_FILES) for name in _OPENING if name in _ARCH.calls),
    _unseen("direct I/O", _raw("iomap_dio_rw_begin", "direct_io_raw"), _OF_FILES + _OF_VECTORS),
    _unseen("io_uring", _raw("io_uring_submit_req", "uring_request_raw"), _OF_REQUESTS),
    *([_32_bit_calls(_ARCH.compat_prefix)] if _ARCH.compat_prefix else []),
    *(_life(name) for name in ("fork", "exec", "exit")),
    _functions(
        "PTE page made",
        Hook(AttachType.FEXIT, "pmd_install", "table_came_fexit"),
        Hook(AttachType.KPROBE, "pmd_install", "table_came_kprobe"),
    ),
    _functions(
        "PTE page freed", *_entered("___pte_free_tlb", "table_went"), macros=("MMU_GATHER_MM",)
    ),
    _functions("PTE page freed by RCU", *_entered("pte_free_defer", "table_deferred")),
    _functions("huge page split", *_entered("__split_huge_pmd", "split"), macros=("VMA_MM",)),
    _functions("huge page collapse", *_returning("collapse_huge_page", "collapse")),
    _functions("reclaim", *_returning("try_to_unmap_one", "unmapped"), macros=_OF_FOLIOS),
)
"""All sources, in the order in which they are attached."""
