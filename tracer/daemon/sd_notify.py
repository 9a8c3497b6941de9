# SPDX-License-Identifier: GPL-2.0-only
"""What systemd wants to hear of a service: that it is up, alive, about to end (sd_notify(3)).

The variables come from whoever started us. What is odd in them is reported and left aside: a
service that nobody listens to still does its work.
"""

import logging
import os
import re
import socket
from functools import cache

__all__ = ("notify", "watchdog_seconds")

_SECONDS = 1.0
"""How long a message may wait where the manager does not read."""
_VSOCK = re.compile(r"vsock(?:-stream|-dgram|-seqpacket)?:.*")
_DIGITS = re.compile(r"[0-9]{1,18}")
_log = logging.getLogger("ptescope")


@cache
def _warn(message: str) -> None:
    """Say it once."""
    _log.warning("ptescope: %s", message)


def notify(state: str) -> None:
    """Send systemd a state such as READY=1, if it started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if _VSOCK.fullmatch(address) or address[0] not in "/@":
        _warn(f"NOTIFY_SOCKET is {address!r}, neither a path nor an abstract socket: not used.")
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.settimeout(_SECONDS)
            to.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
    except (OSError, ValueError) as error:
        _warn(f"The service manager at NOTIFY_SOCKET ({address!r}) cannot be reached: {error}.")


def watchdog_seconds() -> float | None:
    """Within how many seconds systemd wants to hear WATCHDOG=1 each time; None: never."""
    text, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not text or (pid and pid != str(os.getpid())):  # meant for another process
        return None
    if not _DIGITS.fullmatch(text) or not int(text):
        _warn(f"WATCHDOG_USEC is {text!r}, not a number of microseconds: not used.")
        return None
    return int(text) / 1e6
