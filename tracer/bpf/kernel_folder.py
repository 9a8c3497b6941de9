# SPDX-License-Identifier: GPL-2.0-only
"""Folders of the kernel, tracefs and debugfs, even if they are not mounted.

A freshly booted machine or a container may have neither. This module then makes a detached
mount: it has no place in the file system, no other process sees it, and it ends when its file
descriptor is closed.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tracer.arch import running

__all__ = ("kernel_folder",)

_CLOEXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_CMD_CREATE = 6  # FSCONFIG_CMD_CREATE
_READ_ONLY = 1  # MOUNT_ATTR_RDONLY


def _syscall(name: str, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    typed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = libc.syscall(ctypes.c_long(running().calls[name]), *typed)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _mount_detached(kind: str) -> int:
    context = _syscall("fsopen", kind.encode(), _CLOEXEC)
    try:
        _syscall("fsconfig", context, _CMD_CREATE, None, None, 0)
        return _syscall("fsmount", context, _CLOEXEC, _READ_ONLY)
    finally:
        os.close(context)


@contextmanager
def kernel_folder(kind: str, mounted: str, holds: str) -> Iterator[int]:
    """A file descriptor of the root folder of a file system of the kernel.

    Args:
        kind: tracefs or debugfs.
        mounted: where it is usually mounted.
        holds: a folder in it, by which a mount is recognised.

    Raises:
        OSError: it may not be read, or it is not mounted and may not be mounted.
    """
    if os.path.isdir(f"{mounted}/{holds}"):  # noqa: PTH112 - with its fd, not its path
        folder = os.open(mounted, os.O_PATH | os.O_CLOEXEC)
    else:
        folder = _mount_detached(kind)
    try:
        yield folder
    finally:
        os.close(folder)
