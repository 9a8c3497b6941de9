# SPDX-License-Identifier: GPL-2.0-only
"""Notify systemd that the service is ready, alive or stopping (sd_notify(3)).

The variables come from the parent process. Invalid values are reported and ignored, because
the daemon works without a service manager too.
"""

import logging
import os
import re
import socket
from functools import cache

__all__ = ("notify", "watchdog_seconds")

_SECONDS = 1.0
"""Longest wait for a manager that does not read, seconds."""
_VSOCK = re.compile(r"vsock(?:-stream|-dgram|-seqpacket)?:.*")
_DIGITS = re.compile(r"[0-9]{1,18}")
_log = logging.getLogger("ptescope")


@cache
def _warn(message: str) -> None:
    """Log a warning once."""
    _log.warning("ptescope: %s", message)


def notify(state: str) -> None:
    """Send systemd a state such as READY=1, if it started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if _VSOCK.fullmatch(address) or address[0] not in "/@":
        _warn(f"NOTIFY_SOCKET is ignored: {address!r} is neither a path nor an abstract socket.")
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.settimeout(_SECONDS)
            to.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except (OSError, ValueError) as error:
        _warn(f"The service manager at NOTIFY_SOCKET ({address!r}) cannot be reached: {error}.")


def watchdog_seconds() -> float | None:
    """Seconds within which systemd expects each WATCHDOG=1; None: it expects none."""
    text, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not text or (pid and pid != str(os.getpid())):  # the variable is for another process
        return None
    if not _DIGITS.fullmatch(text) or not int(text):
        _warn(f"WATCHDOG_USEC is ignored: {text!r} is not a number of microseconds.")
        return None
    return int(text) / 1e6
