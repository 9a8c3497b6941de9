# SPDX-License-Identifier: GPL-2.0-only
"""Serve /metrics, /healthz and the live pages over HTTP to clients that may misbehave.

One thread serves all connections. Each connection has a few seconds to send its request and to
read the answer. If there are too many connections, the server closes the one that has been
silent for the longest time.
"""

import asyncio
import logging
import resource
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11

from shadow.errors import PtescopeError
from shadow.host_view import HostView
from tracer.daemon.answers import Answer, Request, text_answer
from tracer.daemon.listeners import BACKLOG, listen, listen_on_path
from tracer.daemon.metrics_page import MetricsPage
from tracer.daemon.pages import LivePages, Look
from tracer.daemon.view_page import ViewPage

__all__ = ("MetricsServer",)

_REQUEST_SECONDS, _SEND_SECONDS = 5.0, 10.0
_MOST_CONNECTIONS = 1024
_REQUEST_BYTES = 8192
_PART = 1 << 16
_Pages = Sequence[MetricsPage | LivePages | ViewPage]
_log = logging.getLogger("ptescope")


class MetricsServer:
    """Serves metrics and pages until `stop`.

    Args:
        view: returns the current state of the host; may raise TimeoutError.
        host: the address to listen on.
        port: the port; 0: any free port.
        top: number of processes and of cgroups with their own metrics.
        look: like `view`, with the slots of the process with this pid; None: pages have no maps.
        socket_path: where to serve views to `ptescope top`; None: nowhere.

    Attributes:
        port: the port in use.
        problem: why it ended without `stop`; None: it did not.

    Raises:
        UsageError: the server cannot listen on this address, or on this path.
    """

    def __init__(
        self,
        view: Callable[[], HostView],
        host: str,
        port: int,
        *,
        top: int,
        look: Look | None = None,
        socket_path: Path | None = None,
    ) -> None:
        self._socket = listen(host, port)
        self._top_socket = listen_on_path(socket_path) if socket_path else None
        self.port: int = self._socket.getsockname()[1]
        self.problem: BaseException | None = None
        self._metrics = MetricsPage(view, top)
        look = look or (lambda _: view())
        self._pages = LivePages(look, host)
        self._views = ViewPage(look)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._stopped = asyncio.Event()
        self._most = min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._waiting: dict[asyncio.Task[None], None] = {}
        """Connections that have not sent a complete request, the oldest first."""
        self._open: set[asyncio.Task[None]] = set()
        self._noted = 0.0
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Start the server."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server."""
        if self._thread.ident is not None:
            with suppress(RuntimeError):  # the loop has already ended
                self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()
        for page in (self._metrics, self._pages, self._views):
            page.close()
        self._socket.close()
        if self._top_socket:
            self._top_socket.close()
        self._loop.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # the main thread reports it
            self.problem = error

    async def _serve(self) -> None:
        public = partial(self._connected, (self._metrics, self._pages))
        servers = [
            await asyncio.start_server(
                public, sock=self._socket, limit=_REQUEST_BYTES, backlog=BACKLOG
            )
        ]
        if self._top_socket:
            to_top = partial(self._connected, (self._views,))
            servers.append(
                await asyncio.start_unix_server(to_top, sock=self._top_socket, limit=_REQUEST_BYTES)
            )
        try:
            await self._stopped.wait()
        finally:
            for server in servers:
                server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a problem at most once a minute, for example a lack of file descriptors."""
        if loop.time() - self._noted > 60 or not self._noted:
            self._noted = loop.time()
            error = context.get("exception")
            _log.warning("ptescope: metrics: %s (%s)", context["message"], error)

    async def _connected(
        self, pages: _Pages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is None or not self._make_room():
            writer.transport.abort()
            return
        self._open.add(task)
        self._waiting[task] = None
        try:
            await self._talk(task, pages, reader, writer)
        except (TimeoutError, OSError, asyncio.CancelledError):
            writer.transport.abort()  # the client caused it, or room was made
        finally:
            self._waiting.pop(task, None)
            self._open.discard(task)
            writer.close()

    def _make_room(self) -> bool:
        """Whether there is room for a connection; closes the oldest silent one if needed."""
        if len(self._open) < self._most:
            return True
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        del self._waiting[oldest]
        oldest.cancel()
        return True

    async def _talk(
        self,
        task: "asyncio.Task[None]",
        pages: _Pages,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_REQUEST_BYTES)
        request = None
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await _request(connection, reader)
            if request is None:
                return
            self._waiting.pop(task, None)
            answer = await _answer(pages, request)
        except (TimeoutError, OSError):
            raise
        except (h11.RemoteProtocolError, ValueError):
            answer = Answer(HTTPStatus.BAD_REQUEST, b"This request is not valid HTTP.\n")
        except PtescopeError as error:
            answer = Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
        except Exception as error:
            self._note(self._loop, {"message": "a request failed", "exception": repr(error)})
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error!r}\n".encode())
        async with asyncio.timeout(_SEND_SECONDS):
            await _send(connection, writer, answer, body=not request or request.method != "HEAD")


async def _answer(pages: _Pages, request: Request) -> Answer:
    path = urlsplit(request.target).path
    served = [page for page in pages if page.serves(path)]
    if not served:
        return text_answer(404, "Not found: use /, /process/PID, /metrics or /healthz.")
    if request.method not in ("GET", "HEAD"):
        return text_answer(405, "Not supported: use GET or HEAD.", ("Allow", "GET, HEAD"))
    return await served[0].answer(request)


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """Read the request of a connection; None: the client closed it without one."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            return Request(event.method.decode(), event.target.decode(), headers)
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_REQUEST_BYTES))


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, body: bool
) -> None:
    """Send an answer, and wait until the kernel has accepted all of it."""
    headers = [*answer.headers, ("Content-Length", str(len(answer.body))), ("Connection", "close")]
    status = HTTPStatus(answer.status)
    head = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(connection.send(head) or b"")
    if body:  # in parts, because asyncio copies what a slow client has not read
        for at in range(0, len(answer.body), _PART):
            writer.write(answer.body[at : at + _PART])
            await writer.drain()
    await writer.drain()
