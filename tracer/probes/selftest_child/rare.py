# SPDX-License-Identifier: GPL-2.0-only
"""Calls that few programs make."""

import ctypes
import os
from collections.abc import Callable

from tracer.probes.selftest_child.calls import PAGE, SLOT, Seen, call, shared_file, words

__all__ = ("RARE_ACTS",)

_PR_SET_MEMORY_MERGE, _MPOL_BIND, _IPC_RMID = 67, 2, 0
_UFFD_USER_MODE_ONLY, _UFFDIO_API, _UFFDIO_REGISTER = 1, 0xC018AA3F, 0xC020AA00


def _prctl(_at: int) -> Seen:
    """Set the current value again, so that nothing changes."""
    call("prctl", _PR_SET_MEMORY_MERGE, 0, 0, 0, 0)
    return [("LABEL", 0)]


def _mbind(at: int) -> Seen:
    call("mbind", at, PAGE, 0, 0, 0, 0)
    return [("LABEL", at)]


def _home_node(at: int) -> Seen:
    nodes = words(1)
    call("mbind", at, PAGE, _MPOL_BIND, ctypes.addressof(nodes), 64, 0)
    call("set_mempolicy_home_node", at, PAGE, 0, 0)
    return [("DOUBT", at)]


def _mseal(at: int) -> Seen:
    call("mseal", at, PAGE, 0)
    return [("LABEL", at)]


def _shm(at: int) -> Seen:
    segment = call("shmget", 0, SLOT, 0o1600)
    try:
        call("munmap", at, SLOT)
        call("shmat", segment, at, 0)
    finally:
        call("shmctl", segment, _IPC_RMID, 0)
    return [("DOUBT", at)]


def _shmdt(at: int) -> Seen:
    _shm(at)
    call("shmdt", at)
    return [("DETACH", at)]


def _io_setup(_at: int) -> Seen:
    context = words(0)
    call("io_setup", 1, ctypes.addressof(context))
    return [("DOUBT", context[0])]


def _io_destroy(at: int) -> Seen:
    (_, context) = _io_setup(at)[0][:2]
    call("io_destroy", context)
    return [("DETACH", context)]


def _remap_file_pages(at: int) -> Seen:
    shared_file(at)
    call("remap_file_pages", at, PAGE, 0, 1, 0)
    return [("DOUBT", at)]


def _map_shadow_stack(_at: int) -> Seen:
    return [("DOUBT", call("map_shadow_stack", 0, SLOT, 0))]


def _ioctl(at: int) -> Seen:
    file = call("userfaultfd", _UFFD_USER_MODE_ONLY)
    api, range_ = words(0xAA, 0, 0), words(at, SLOT, 1, 0)
    call("ioctl", file, _UFFDIO_API, ctypes.addressof(api))
    call("ioctl", file, _UFFDIO_REGISTER, ctypes.addressof(range_))
    os.close(file)
    return [("LABEL", at)]


def _vmsplice(at: int) -> Seen:
    _, writer = os.pipe()
    vector = words(at, PAGE)
    call("vmsplice", writer, ctypes.addressof(vector), 1, 0)
    return [("FILL", at)]


def _io_uring_register(at: int) -> Seen:
    parameters = (ctypes.c_uint32 * 30)()
    file = call("io_uring_setup", 1, ctypes.addressof(parameters))
    vector = words(at, PAGE)
    call("io_uring_register", file, 0, ctypes.addressof(vector), 1)
    os.close(file)
    return [("FILL", at)]


def _process_vm(name: str) -> Callable[[int], Seen]:
    def act(at: int) -> Seen:
        buffer = ctypes.create_string_buffer(8)
        here, there = words(ctypes.addressof(buffer), 8), words(at, 8)
        vectors = ctypes.addressof(here), 1, ctypes.addressof(there), 1
        call(name, os.getpid(), *vectors, 0)
        return [("FILL", at)]

    return act


RARE_ACTS: dict[str, Callable[[int], Seen]] = {
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
}
"""Actions that provoke the events of each source, each in its own memory area."""
