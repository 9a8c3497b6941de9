# SPDX-License-Identifier: GPL-2.0-only
"""The sockets on which the daemon listens, and their names."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from shadow.errors import UsageError

__all__ = ("BACKLOG", "SOCKET", "listen", "listen_on_path", "server_url")

SOCKET = Path("/run/ptescope/daemon.sock")
"""Where the service listens for `ptescope top`."""
BACKLOG = 4096
"""Connections that may wait in the kernel (at most net.core.somaxconn)."""
_FOR_OWNER_AND_GROUP = 0o660


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        UsageError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError, TypeError, ValueError) as error:
        raise UsageError(
            f"Metrics cannot be served on {host}:{port} ({error}); choose another --listen address."
        ) from error


def listen_on_path(path: Path) -> socket.socket:
    """Listen on a path, for this account and its group.

    A socket that an earlier daemon has left there is replaced.

    Raises:
        UsageError: the path cannot be used.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        before = os.umask(0o777 & ~_FOR_OWNER_AND_GROUP)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise UsageError(
            f"The socket {path} cannot be made ({error.strerror or error}); choose another "
            "--socket."
        ) from error
    return made


def server_url(host: str, port: int) -> str:
    """The address of the live page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
