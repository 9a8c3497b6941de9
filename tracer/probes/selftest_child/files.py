# SPDX-License-Identifier: GPL-2.0-only
"""Calls that remove pages from files."""

import ctypes
import os
from collections.abc import Callable

from tracer.arch import running
from tracer.probes.selftest_child.calls import PAGE, Seen, call, shared_file, words

__all__ = ("FILE_ACTS",)

_PUNCH_HOLE = 1 | 2


def _cut(how: Callable[[int], object], first: int = 0) -> Callable[[int], Seen]:
    """An action that removes pages of a mapped file, from page `first` on."""

    def act(at: int) -> Seen:
        how(shared_file(at))
        return [("FILE_ZAP", first)]

    return act


def _opened(name: str, *arguments: int) -> Callable[[int], object]:
    """A function that opens a file again with O_TRUNC, by the path of its descriptor."""

    def how(file: int) -> None:
        path = ctypes.create_string_buffer(f"/proc/self/fd/{file}".encode())
        opened_how = words(os.O_RDWR | os.O_TRUNC, 0, 0)
        places = {-1: ctypes.addressof(path), -2: ctypes.addressof(opened_how), -3: (1 << 64) - 100}
        os.close(call(name, *(places.get(argument, argument) for argument in arguments)))

    return how


def _copied(file: int) -> None:
    source = os.memfd_create("source")
    os.write(source, b"x")
    call("copy_file_range", source, 0, file, 0, 1, 0)


_ACTS: dict[str, Callable[[int], Seen]] = {
    "ftruncate": _cut(lambda file: os.ftruncate(file, PAGE), PAGE),
    "truncate": _cut(lambda file: os.truncate(f"/proc/self/fd/{file}", PAGE)),
    "fallocate": _cut(lambda file: call("fallocate", file, _PUNCH_HOLE, PAGE, PAGE), PAGE),
    "open": _cut(_opened("open", -1, os.O_RDWR | os.O_TRUNC, 0)),
    "openat": _cut(_opened("openat", -3, -1, os.O_RDWR | os.O_TRUNC, 0)),
    "openat2": _cut(_opened("openat2", -3, -1, -2, 24)),
    "creat": _cut(_opened("creat", -1, 0)),
    "copy_file_range": _cut(_copied),
}
FILE_ACTS = {name: act for name, act in _ACTS.items() if name in running().calls}
"""Actions that provoke the events of each source, each in its own memory area."""
