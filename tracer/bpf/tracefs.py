# SPDX-License-Identifier: GPL-2.0-only
"""Tracepoint ids from tracefs, even if tracefs is not mounted.

A freshly booted machine or a container may have no tracefs. This module then makes a detached
mount: it has no place in the file system, no other process sees it, and it ends when its file
descriptor is closed. The module never reads /sys/kernel/debug/tracing, because any access
mounts tracefs there and leaves it mounted.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from shadow.errors import NotPermittedError, UnsupportedHostError
from tracer.arch import running

__all__ = ("tracepoint_id",)

_MOUNTED = "/sys/kernel/tracing"
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


def _mount_detached() -> int:
    context = _syscall("fsopen", b"tracefs", _CLOEXEC)
    try:
        _syscall("fsconfig", context, _CMD_CREATE, None, None, 0)
        return _syscall("fsmount", context, _CLOEXEC, _READ_ONLY)
    finally:
        os.close(context)


@contextmanager
def _tracefs() -> Iterator[int]:
    """A file descriptor of the root folder of tracefs."""
    if os.path.isdir(f"{_MOUNTED}/events"):  # noqa: PTH112 - with its fd, not its path
        folder = os.open(_MOUNTED, os.O_PATH | os.O_CLOEXEC)
    else:
        folder = _mount_detached()
    try:
        yield folder
    finally:
        os.close(folder)


def tracepoint_id(where: str) -> int:
    """The number that identifies a tracepoint to perf_event_open.

    Args:
        where: `category:name`.

    Raises:
        NotPermittedError: tracefs may not be read, or it is not mounted and may not be mounted.
        UnsupportedHostError: this kernel has no such tracepoint, or no tracefs.
    """
    category, _, name = where.partition(":")
    try:
        with _tracefs() as folder:
            file = os.open(f"events/{category}/{name}/id", os.O_RDONLY, dir_fd=folder)
            with open(file) as text:
                return int(text.read())
    except FileNotFoundError as error:
        raise UnsupportedHostError("this kernel has no such tracepoint") from error
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermittedError(
                "tracefs may not be read (root or CAP_DAC_READ_SEARCH may) or is not mounted "
                f"at {_MOUNTED} (CAP_SYS_ADMIN works without the mount)"
            ) from error
        raise UnsupportedHostError(f"there is no tracefs: {error.strerror}") from error
