# SPDX-License-Identifier: GPL-2.0-only
"""Tracepoint ids from tracefs.

The module never reads /sys/kernel/debug/tracing, because any access mounts tracefs there and
leaves it mounted.
"""

import errno
import os

from shadow.errors import NotPermittedError, UnsupportedHostError
from tracer.bpf.kernel_folder import kernel_folder

__all__ = ("tracepoint_id",)

_MOUNTED = "/sys/kernel/tracing"


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
        with kernel_folder("tracefs", _MOUNTED, "events") as folder:
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
