"""/metrics and /healthz over HTTP."""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from shadow.errors import UsageError
from shadow.host import HostView
from shadow.report.metrics import HostCollector

__all__ = ("MetricsServer",)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow reader stops nobody."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """No line in the log for each scrape."""

    timeout = 10

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class MetricsServer:
    """Serves metrics until it is stopped.

    Args:
        view: gives the host as it is now; may raise TimeoutError.
        host: the address to listen on.
        port: the port; 0: any that is free.
        top: how many processes and cgroups have metrics of their own.

    Raises:
        UsageError: that address cannot be listened on.
    """

    def __init__(self, view: Callable[[], HostView], host: str, port: int, *, top: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(HostCollector(view, top))
        self._view, self._metrics = view, make_wsgi_app(registry)
        server = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, port, self._app, server, _Quiet)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"Metrics cannot be served on {host}:{port} ({error}); choose another --listen."
            ) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics")

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        if path == "/healthz":
            status, text = self._health()
        else:
            status, text = "404 Not Found", "There are /metrics and /healthz."
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode() + b"\n"]

    def _health(self) -> tuple[str, str]:
        try:
            view = self._view()
        except TimeoutError as error:
            return "503 Service Unavailable", str(error)
        if not view.cost.sees_events:
            return "503 Service Unavailable", "no event of our own came back lately"
        return "200 OK", "events come in"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
