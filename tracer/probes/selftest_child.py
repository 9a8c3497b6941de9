# SPDX-License-Identifier: GPL-2.0-only
"""A program that does one thing of each kind that the probes tell of, and says which.

It is run by file name, with nothing but the standard library, waits for a line, acts, and
writes JSON: for each source of events (`tracer.probes.sources`) the events that must be seen, as
names of kinds, addresses and, where it matters, `aux`, or why it could not act. Then it is
replaced by `true`.
"""

import ctypes
import json
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

_PAGE, _SLOT = 1 << 12, 1 << 21
_BASE = 0x2000_0000_0000
_AREA = 2 * _SLOT
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED_ANONYMOUS = 0x10 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_MAP_FIXED_SHARED = 0x10 | mmap.MAP_SHARED
_MREMAP_MAYMOVE_FIXED = 3
_DONTNEED, _FREE, _HUGEPAGE, _NOHUGEPAGE, _PAGEOUT, _COLLAPSE = 4, 8, 14, 15, 21, 25
_CALLS = {
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "mremap": 25,
    "madvise": 28,
    "mlock": 149,
    "munlock": 150,
    "mlockall": 151,
    "munlockall": 152,
    "mlock2": 325,
    "pkey_mprotect": 329,
    "open": 2,
    "openat": 257,
    "pidfd_open": 434,
    "process_madvise": 440,
    "ioctl": 16,
    "shmget": 29,
    "shmat": 30,
    "shmctl": 31,
    "shmdt": 67,
    "creat": 85,
    "prctl": 157,
    "io_setup": 206,
    "io_destroy": 207,
    "remap_file_pages": 216,
    "mbind": 237,
    "vmsplice": 278,
    "fallocate": 285,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "userfaultfd": 323,
    "copy_file_range": 326,
    "io_uring_setup": 425,
    "io_uring_register": 427,
    "openat2": 437,
    "set_mempolicy_home_node": 450,
    "map_shadow_stack": 453,
    "mseal": 462,
}
_MCL_FUTURE_ONFAULT = 2 | 4
_DEFERRED = 1  # shadow.events.DEFERRED, which is out of reach here
_PR_SET_MEMORY_MERGE, _MPOL_BIND, _IPC_RMID = 67, 2, 0
_PUNCH_HOLE = 1 | 2
_UFFD_USER_MODE_ONLY, _UFFDIO_API, _UFFDIO_REGISTER = 1, 0xC018AA3F, 0xC020AA00

Seen = list[tuple[str, int] | tuple[str, int, int]]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, *arguments: int) -> int:
    result: int = _libc.syscall(_CALLS[name], *(ctypes.c_ulong(value) for value in arguments))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _map(at: int) -> int:
    no_file = (1 << 64) - 1
    return _call("mmap", at, _AREA, _READ_WRITE, _MAP_FIXED_ANONYMOUS, no_file, 0)


def _touch(at: int, pages: int = 1) -> None:
    for page in range(pages):
        ctypes.memset(at + page * _PAGE, 1, 1)


def _page_fault(at: int) -> Seen:
    _touch(at)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    _libc.read(reader, ctypes.c_void_p(at + _PAGE), 1)  # the kernel is the one that faults
    return [("FAULT", at), ("FAULT", at + _PAGE)]


def _madvise(at: int) -> Seen:
    _touch(at, 2)
    _call("madvise", at, _PAGE, _DONTNEED)
    _call("madvise", at + _PAGE, _PAGE, _FREE)
    return [("DONTNEED", at), ("FREE", at + _PAGE)]


def _process_madvise(at: int) -> Seen:
    _touch(at)
    vector = (ctypes.c_ulong * 2)(at, _PAGE)
    me = _call("pidfd_open", os.getpid(), 0)
    _call("process_madvise", me, ctypes.addressof(vector), 1, _DONTNEED, 0)
    return [("DONTNEED", at)]


def _munmap(at: int) -> Seen:
    _call("munmap", at, _SLOT)
    return [("UNMAP_BEGIN", at), ("UNMAP", at)]


def _mremap(at: int) -> Seen:
    _call("mremap", at, _PAGE, _PAGE, _MREMAP_MAYMOVE_FIXED, at + _SLOT)
    return [("REMAP_FROM", at), ("REMAP_TO", at + _SLOT)]


def _brk(_at: int) -> Seen:
    end = _call("brk", 0)
    return [("BRK", end)]


def _protect(name: str, *more: int) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        _call(name, at, _PAGE, mmap.PROT_READ, *more)
        return [("PROTECT", at)]

    return act


def _lock(name: str, *more: int) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        _call(name, at, _PAGE, *more)
        return [("LOCK", at)]

    return act


def _munlock(at: int) -> Seen:
    _call("munlock", at, _PAGE)
    return [("UNLOCK", at)]


def _mlockall(_at: int) -> Seen:
    _call("mlockall", _MCL_FUTURE_ONFAULT)
    return [("LOCK", 0)]


def _munlockall(_at: int) -> Seen:
    _call("munlockall")
    return [("UNLOCK", 0)]


def _fork(_at: int) -> Seen:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return [("FORK", child)]


def _made(at: int) -> Seen:
    _touch(at)
    return [("PTE_ALLOC", 0)]


def _freed(at: int) -> Seen:
    _touch(at)
    _call("munmap", at, _AREA)
    return [("PTE_FREE", 0, 0)]


def _deferred(at: int) -> Seen:
    file = os.memfd_create("ptescope")
    os.ftruncate(file, _SLOT)
    _call("mmap", at, _SLOT, _READ_WRITE, _MAP_FIXED_SHARED, file, 0)
    _touch(at, 8)
    _call("madvise", at, _SLOT, _COLLAPSE)
    return [("PTE_FREE", 0, _DEFERRED)]


def _collapse(at: int) -> Seen:
    _touch(at, 8)
    _call("madvise", at, _SLOT, _HUGEPAGE)
    _call("madvise", at, _SLOT, _COLLAPSE)
    return [("COLLAPSE", at)]


def _split(at: int) -> Seen:
    _collapse(at)
    _call("munmap", at + _PAGE, _PAGE)
    return [("SPLIT", at)]


def _reclaim(at: int) -> Seen:
    _touch(at, 64)
    _call("madvise", at, _SLOT, _FREE)
    _call("madvise", at, _SLOT, _PAGEOUT)
    resident = (ctypes.c_ubyte * 64)()
    _libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(64 * _PAGE), resident)
    gone = [at + page * _PAGE for page in range(64) if not resident[page] & 1]
    if not gone:
        raise OSError(0, "the kernel kept the pages")
    return [("RECLAIM", gone[0])]


def _words(*words: int) -> "ctypes.Array[ctypes.c_ulong]":
    return (ctypes.c_ulong * len(words))(*words)


def _prctl(_at: int) -> Seen:
    """As it is already, so nothing changes."""
    _call("prctl", _PR_SET_MEMORY_MERGE, 0, 0, 0, 0)
    return [("LABEL", 0)]


def _mbind(at: int) -> Seen:
    _call("mbind", at, _PAGE, 0, 0, 0, 0)
    return [("LABEL", at)]


def _home_node(at: int) -> Seen:
    nodes = _words(1)
    _call("mbind", at, _PAGE, _MPOL_BIND, ctypes.addressof(nodes), 64, 0)
    _call("set_mempolicy_home_node", at, _PAGE, 0, 0)
    return [("DOUBT", at)]


def _mseal(at: int) -> Seen:
    _call("mseal", at, _PAGE, 0)
    return [("LABEL", at)]


def _shm(at: int) -> Seen:
    segment = _call("shmget", 0, _SLOT, 0o1600)
    try:
        _call("munmap", at, _SLOT)
        _call("shmat", segment, at, 0)
    finally:
        _call("shmctl", segment, _IPC_RMID, 0)
    return [("DOUBT", at)]


def _shmdt(at: int) -> Seen:
    _shm(at)
    _call("shmdt", at)
    return [("DETACH", at)]


def _io_setup(_at: int) -> Seen:
    context = _words(0)
    _call("io_setup", 1, ctypes.addressof(context))
    return [("DOUBT", context[0])]


def _io_destroy(at: int) -> Seen:
    (_, context) = _io_setup(at)[0][:2]
    _call("io_destroy", context)
    return [("DETACH", context)]


def _shared_file(at: int) -> int:
    """A file in memory, mapped and touched."""
    file = os.memfd_create("ptescope")
    os.ftruncate(file, _SLOT)
    _call("mmap", at, _SLOT, _READ_WRITE, _MAP_FIXED_SHARED, file, 0)
    _touch(at)
    return file


def _remap_file_pages(at: int) -> Seen:
    _shared_file(at)
    _call("remap_file_pages", at, _PAGE, 0, 1, 0)
    return [("DOUBT", at)]


def _map_shadow_stack(_at: int) -> Seen:
    return [("DOUBT", _call("map_shadow_stack", 0, _SLOT, 0))]


def _ioctl(at: int) -> Seen:
    file = _call("userfaultfd", _UFFD_USER_MODE_ONLY)
    api, range_ = _words(0xAA, 0, 0), _words(at, _SLOT, 1, 0)
    _call("ioctl", file, _UFFDIO_API, ctypes.addressof(api))
    _call("ioctl", file, _UFFDIO_REGISTER, ctypes.addressof(range_))
    os.close(file)
    return [("LABEL", at)]


def _vmsplice(at: int) -> Seen:
    _, writer = os.pipe()
    vector = _words(at, _PAGE)
    _call("vmsplice", writer, ctypes.addressof(vector), 1, 0)
    return [("FILL", at)]


def _io_uring_register(at: int) -> Seen:
    parameters = (ctypes.c_uint32 * 30)()
    file = _call("io_uring_setup", 1, ctypes.addressof(parameters))
    vector = _words(at, _PAGE)
    _call("io_uring_register", file, 0, ctypes.addressof(vector), 1)
    os.close(file)
    return [("FILL", at)]


def _process_vm(name: str) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        buffer = ctypes.create_string_buffer(8)
        here, there = _words(ctypes.addressof(buffer), 8), _words(at, 8)
        vectors = ctypes.addressof(here), 1, ctypes.addressof(there), 1
        _call(name, os.getpid(), *vectors, 0)
        return [("FILL", at)]

    return act


def _cut(how: Callable[[int], object], first: int = 0) -> Callable[[int], Seen]:
    """A file that is mapped loses pages, from this place on."""

    def act(at: int) -> Seen:
        how(_shared_file(at))
        return [("FILE_ZAP", first)]

    return act


def _opened(name: str, *arguments: int) -> Callable[[int], object]:
    """Opened once more, by its descriptor's path, with O_TRUNC."""

    def how(file: int) -> None:
        path = ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())
        opened_how = _words(os.O_RDWR | os.O_TRUNC, 0, 0)
        places = {-1: ctypes.addressof(path), -2: ctypes.addressof(opened_how), -3: (1 << 64) - 100}
        os.close(_call(name, *(places.get(argument, argument) for argument in arguments)))

    return how


def _copied(file: int) -> None:
    source = os.memfd_create("source")
    os.write(source, b"x")
    _call("copy_file_range", source, 0, file, 0, 1, 0)


_ACTS: dict[str, Callable[[int], Seen]] = {
    "page fault": _page_fault,
    "madvise": _madvise,
    "process_madvise": _process_madvise,
    "munmap": _munmap,
    "mmap": lambda at: [("MAP", _map(at))],
    "mremap": _mremap,
    "brk": _brk,
    "mprotect": _protect("mprotect"),
    "pkey_mprotect": _protect("pkey_mprotect", (1 << 64) - 1),
    "mlock": _lock("mlock"),
    "mlock2": _lock("mlock2", 0),
    "munlock": _munlock,
    "mlockall": _mlockall,
    "munlockall": _munlockall,
    "prctl": _prctl,
    "mbind": _mbind,
    "set_mempolicy_home_node": _home_node,
    "mseal": _mseal,
    "shmat": _shm,
    "shmdt": _shmdt,
    "io_setup": _io_setup,
    "io_destroy": _io_destroy,
    "remap_file_pages": _remap_file_pages,
    "map_shadow_stack": _map_shadow_stack,
    "ioctl": _ioctl,
    "vmsplice": _vmsplice,
    "io_uring_register": _io_uring_register,
    "process_vm_readv": _process_vm("process_vm_readv"),
    "process_vm_writev": _process_vm("process_vm_writev"),
    "ftruncate": _cut(lambda file: os.ftruncate(file, _PAGE), _PAGE),
    "truncate": _cut(lambda file: os.truncate(f"/proc/self/fd/{file}", _PAGE)),
    "fallocate": _cut(lambda file: _call("fallocate", file, _PUNCH_HOLE, _PAGE, _PAGE), _PAGE),
    "open": _cut(_opened("open", -1, os.O_RDWR | os.O_TRUNC, 0)),
    "openat": _cut(_opened("openat", -3, -1, os.O_RDWR | os.O_TRUNC, 0)),
    "openat2": _cut(_opened("openat2", -3, -1, -2, 24)),
    "creat": _cut(_opened("creat", -1, 0)),
    "copy_file_range": _cut(_copied),
    "fork": _fork,
    "PTE page made": _made,
    "PTE page freed": _freed,
    "PTE page freed by RCU": _deferred,
    "huge page split": _split,
    "huge page collapse": _collapse,
    "reclaim": _reclaim,
}


def main() -> None:
    """Act once told to."""
    print("ready", flush=True)
    sys.stdin.readline()
    seen: dict[str, Seen] = {}
    failed: dict[str, str] = {}
    for number, (name, act) in enumerate(_ACTS.items()):
        at = _BASE + number * 2 * _AREA
        try:
            _map(at)
            _call("madvise", at, _AREA, _NOHUGEPAGE)
            seen[name] = act(at)
        except OSError as error:
            failed[name] = f"{error.strerror}"
    program = next((path for path in ("/bin/true", "/usr/bin/true") if Path(path).exists()), None)
    if program:
        seen |= {"exec": [("EXEC", 0)], "exit": [("EXIT", 0)]}
    print(json.dumps({"seen": seen, "failed": failed}), flush=True)
    if program:
        os.execv(program, [program])


if __name__ == "__main__":
    main()
