"""What systemd wants to hear of a service: that it is up, alive, about to end (sd_notify(3))."""

import os
import socket

__all__ = ("notify", "watchdog_seconds")


def notify(state: str) -> None:
    """Tell systemd, if it started us; such as READY=1."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """Within how many seconds systemd wants to hear WATCHDOG=1 each time; None: never."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 1e6 if microseconds else None
