# SPDX-License-Identifier: GPL-2.0-only
"""The metrics server with many, slow, silent or misbehaving clients."""

import gzip
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from shadow.errors import PtescopeError, UsageError
from shadow.host_view import HostView
from tests.shadow.hosts import host_view
from tracer.daemon import server as servers
from tracer.daemon.server import MetricsServer


@contextmanager
def _server(view: Callable[[], HostView] = host_view, top: int = 5) -> Iterator[MetricsServer]:
    server = MetricsServer(view, "127.0.0.1", 0, top=top)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert server.problem is None


def _get(server: MetricsServer, path: str = "/metrics") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
        body: bytes = answer.read()
    return body


def _say(server: MetricsServer, text: bytes) -> bytes:
    """The response to these bytes, until the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(text)
        return _rest(client)


def _rest(client: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _silent(server: MetricsServer, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]


def test_half_open_connections_do_not_block_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_REQUEST_SECONDS", 2.0)
    with _server() as server:
        clients = _silent(server, 1700)
        begin = time.monotonic()
        assert b"ptescope_processes" in _get(server)
        assert time.monotonic() - begin < 3
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert b"ptescope_processes" in _get(server)
            time.sleep(0.5)
        clients[0].settimeout(5)
        assert clients[0].recv(1) == b""
        for client in clients:
            client.close()
        assert b"ptescope_processes" in _get(server)
    assert caplog.records == []


def test_a_slow_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "_REQUEST_SECONDS", 2.0)
    with _server() as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        begin = time.monotonic()
        with suppress(ConnectionError):
            for byte in b"GET /metrics HTTP/1.1\r\nHost: " + b"x" * 100:
                client.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - begin < 5


def test_a_client_that_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_SEND_SECONDS", 2.0)
    view = host_view()
    many = [replace(view.processes[0], pid=n, cgroup="/" + "long" * 50) for n in range(2000)]
    large = replace(view, processes=many)
    with _server(lambda: large, top=2000) as server:
        clients = []
        whole = len(_get(server))
        assert whole > 4 << 20
        for _ in range(20):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            clients.append(client)
        assert _get(server)
        time.sleep(4)
        for client in clients:
            client.settimeout(5)
            assert len(_rest(client)) < whole
            client.close()


def test_500_scrapes_at_once_share_one_view() -> None:
    views = []

    def view() -> HostView:
        time.sleep(0.5)
        views.append(1)
        return host_view()

    with _server(view) as server:
        together = threading.Barrier(100)

        def scrape(_: int) -> float:
            begin = time.monotonic()
            assert b"ptescope_processes" in _get(server)
            return time.monotonic() - begin

        def scrapes(number: int) -> list[float]:
            together.wait(10)
            return [scrape(number) for _ in range(5)]

        with ThreadPoolExecutor(100) as pool:
            took = [each for part in pool.map(scrapes, range(100)) for each in part]
    assert len(took) == 500
    assert max(took) < 10
    assert len(views) <= 12


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics?name[]=ptescope_processes HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /other HTTP/1.0\r\n\r\n", b"404"),
        (b"GET //[ HTTP/1.0\r\n\r\n", b"400"),
        (b"POST /metrics HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", b"405"),
        (b"DELETE /metrics HTTP/1.0\r\n\r\n", b"405"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.0\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"400"),
        (b"GET /metrics HTTP/1.0\r\nAccept: \xff\xfe\r\n\r\n", b"200"),
    ],
)
def test_requests_of_all_kinds_have_their_answer(request_: bytes, status: bytes) -> None:
    with _server() as server:
        said = _say(server, request_)
        # A client that is still sending when the answer arrives may see a reset instead.
        assert said[9:12] == status or (not said and len(request_) > 8192)
        assert (b"\r\n\r\n" in said and said.endswith(b"\r\n\r\n")) == (request_[:4] == b"HEAD")
        assert b"ptescope_processes" in _get(server)


def test_the_answer_is_gzipped_on_request() -> None:
    with _server() as server:
        head, _, body = _say(
            server, b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n"
        ).partition(b"\r\n\r\n")
        assert b"gzip" in head.lower()
        assert gzip.decompress(body) == _get(server)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError("the host was not read within 10 s"), 503),
        (PtescopeError("nobody watches"), 503),
        (KeyError("x"), 500),
    ],
)
def test_a_failed_view_is_an_error_response(error: Exception, status: int) -> None:
    def view() -> HostView:
        raise error

    with _server(view) as server:
        for path in ("/metrics", "/healthz"):
            with pytest.raises(urllib.error.HTTPError) as raised:
                _get(server, path)
            assert raised.value.code == status
            assert (str(error) in raised.value.read().decode()) or status == 500


def test_without_file_descriptors_the_server_waits_and_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    with _server() as server:
        assert _get(server)
        server._note(server._loop, {"message": "socket.accept() out of system resource"})
        server._note(server._loop, {"message": "socket.accept() out of system resource"})
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("host", ["256.1.1.1", "x" * 300, "a\0b", "::g"])
def test_an_unavailable_address_is_named(host: str) -> None:
    with pytest.raises(UsageError, match="choose another --listen"):
        MetricsServer(host_view, host, 0, top=5)
    with pytest.raises(UsageError, match="choose another --listen"):
        MetricsServer(host_view, "127.0.0.1", 70000, top=5)
