# SPDX-License-Identifier: GPL-2.0-only
"""Rare system calls that an actor can make, in addition to mmap and the like."""

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tracer.arch import running

__all__ = ("RARE_CALLS",)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_IOCTL, _PRCTL, _IO_SETUP, _MBIND, _VMSPLICE, _USERFAULTFD, _IO_URING_SETUP = (
    running().calls[name]
    for name in ("ioctl", "prctl", "io_setup", "mbind", "vmsplice", "userfaultfd", "io_uring_setup")
)
_IO_URING_ENTER = 426
_PR_SET_VMA = 0x53564D41
_UFFD_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_USER_MODE_ONLY = 1
_INT80 = bytes.fromhex("5355488b07488b5f08488b4f10488b5718488b7720488b6f30488b7f28cd805d5bc3")
"""A function of a pointer to a call's number and its six arguments (8 bytes each)."""


def _call(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(
        ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments)
    )
    return result if result != -1 else -ctypes.get_errno()


def _words(*words: int) -> "ctypes.Array[ctypes.c_ulong]":
    return (ctypes.c_ulong * len(words))(*words)


def _memfd(length: int) -> int:
    fd = os.memfd_create("ptescope")
    os.ftruncate(fd, length)
    return fd


def _file(length: int) -> int:
    """A new, unlinked file of this length on a disk, with its pages in the page cache."""
    with tempfile.NamedTemporaryFile(delete=False, dir="/var/tmp") as file:
        file.write(b"x" * length)
        Path(file.name).unlink()
        return os.dup(file.fileno())


def _cut_by_path(fd: int, length: int) -> int:
    os.truncate(f"/proc/self/fd/{fd}", length)
    return 0


def _open_to_write(fd: int) -> int:
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC))
    return 0


def _uffd(start: int, length: int, modes: int, features: int) -> int:
    """A userfaultfd for this range."""
    fd = _call(_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    api = _words(0xAA, features, 0)
    failed = min(fd, 0) or _call(_IOCTL, fd, _UFFD_API, ctypes.addressof(api))
    return failed or _ioctl(fd, _UFFDIO_REGISTER, start, length, modes) or fd


def _ioctl(fd: int, command: int, *words: int) -> int:
    """An ioctl with a structure of these words, and one more word for a result."""
    given = _words(*words, 0)
    return _call(_IOCTL, fd, command, ctypes.addressof(given))


def _direct_read(address: int, length: int) -> int:
    """A read with O_DIRECT into this memory."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(b"x" * length)
        file.flush()
        fd = os.open(file.name, os.O_RDONLY | os.O_DIRECT)
        result: int = _libc.read(fd, address, length)
        os.close(fd)
    return result


def _vmsplice(address: int, length: int) -> int:
    reader, writer = os.pipe()
    vector = _words(address, length)
    result = _call(_VMSPLICE, writer, ctypes.addressof(vector), 1, 0)
    os.close(reader)
    os.close(writer)
    return result


def _io_setup(events: int) -> int:
    context = _words(0)
    return _call(_IO_SETUP, events, ctypes.addressof(context)) or context[0]


def _mbind(address: int, length: int, mode: int) -> int:
    node = _words(1)
    return _call(
        _MBIND, address, length, mode, ctypes.addressof(node) if mode else 0, 64 * bool(mode), 0
    )


def _name(address: int, length: int, name: int) -> int:
    """Name memory by a number; 0 removes the name."""
    text = ctypes.create_string_buffer(str(name).encode())
    return _call(_PRCTL, _PR_SET_VMA, 0, address, length, ctypes.addressof(text) if name else 0)


def _int80(number: int, *arguments: int) -> int:
    """A 32-bit system call; arguments are below 4 GiB."""
    with mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ) as area:
        area[: len(_INT80)] = _INT80
        given = _words(number, *arguments, *[0] * (6 - len(arguments)))
        view = ctypes.c_char.from_buffer(area)
        function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(ctypes.addressof(view))
        result: int = function(ctypes.addressof(given))
        del view
    return result


def _uring_madvise(address: int, length: int, advice: int) -> int:
    """Submit an IORING_OP_MADVISE and wait; returns its result."""
    parameters = (ctypes.c_uint32 * 30)()
    fd = _call(_IO_URING_SETUP, 4, ctypes.addressof(parameters))
    if fd < 0:
        return fd
    ring = mmap.mmap(fd, mmap.PAGESIZE, offset=0)
    entries = mmap.mmap(fd, mmap.PAGESIZE, offset=0x10000000)
    entry = bytearray(64)
    entry[0] = 25
    entry[16:24], entry[24:28] = address.to_bytes(8, "little"), length.to_bytes(4, "little")
    entry[28:32] = advice.to_bytes(4, "little")
    entries[:64] = bytes(entry)
    tail, array, cqes = parameters[11], parameters[16], parameters[25]
    ring[array : array + 4] = bytes(4)
    ring[tail : tail + 4] = (1).to_bytes(4, "little")
    done = _call(_IO_URING_ENTER, fd, 1, 1, 1, 0, 0)
    result = int.from_bytes(ring[cqes + 8 : cqes + 12], "little", signed=True)
    ring.close()
    entries.close()
    os.close(fd)
    return result if done == 1 else done


RARE_CALLS: Mapping[str, Callable[..., int]] = {
    "call": _call,
    "memfd": _memfd,
    "file": _file,
    "truncate_path": _cut_by_path,
    "open_to_write": _open_to_write,
    "uffd": _uffd,
    "ioctl": _ioctl,
    "direct_read": _direct_read,
    "vmsplice": _vmsplice,
    "io_setup": _io_setup,
    "mbind": _mbind,
    "name": _name,
    "int80": _int80,
    "uring_madvise": _uring_madvise,
}
"""Actions by name; each returns its result, or minus its errno."""
