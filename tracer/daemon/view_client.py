# SPDX-License-Identifier: GPL-2.0-only
"""The other end of `tracer.daemon.view_page`: asks a running daemon for views of the host."""

import http.client
import socket
from pathlib import Path

from shadow.errors import NotPermittedError, PtescopeError
from shadow.escape import printable
from shadow.host_view import HostView
from shadow.report.view_bytes import view_from_bytes
from tracer.daemon.view_page import VIEW_PATH

__all__ = ("DaemonViews",)

_SECONDS = 15.0
_MOST_BYTES = 256 << 20


class _Connection(http.client.HTTPConnection):
    """HTTP on a socket of the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class DaemonViews:
    """Views from the daemon that listens on a socket.

    Args:
        path: the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, slots_of: int | None = None) -> HostView:
        """Request a view, with the slots of the process with this pid, if one is given.

        Raises:
            TimeoutError: the daemon did not answer in time.
            NotPermittedError: this account may not ask it.
            PtescopeError: no daemon listens there, or it cannot answer.
        """
        connection = _Connection(self._path)
        try:
            connection.request("GET", f"{VIEW_PATH}?pid={slots_of}" if slots_of else VIEW_PATH)
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES)
        except PermissionError as error:
            raise NotPermittedError(
                f"Only root and the daemon's group may use {self._path}. Join the group (usermod "
                "-aG ptescope USER) and log in again, or run this as root."
            ) from error
        except TimeoutError:
            raise TimeoutError(f"the daemon did not answer within {_SECONDS:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise PtescopeError(
                f"The daemon cannot be reached at {self._path} ({error}). Start it (systemctl "
                "start ptescope), or run this as root."
            ) from error
        finally:
            connection.close()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise TimeoutError(printable(body.decode(errors="replace").strip()))
        if answer.status != http.client.OK:
            raise PtescopeError(f"The daemon refused: {body.decode(errors='replace').strip()}.")
        return view_from_bytes(body)
