# SPDX-License-Identifier: GPL-2.0-only
"""The live pages over HTTP: headers, other sites, hostile and slow clients, cost."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from shadow.host_view import HostView
from tests.shadow.hosts import host_view
from tracer.daemon import pages
from tracer.daemon.server import MetricsServer

Look = Callable[[int | None], HostView]
_WANTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def _view(pid: int | None) -> HostView:
    return replace(host_view(), slots_of=pid)


@contextmanager
def _server(look: Look = _view) -> Iterator[MetricsServer]:
    server = MetricsServer(lambda: look(None), "127.0.0.1", 0, top=5, look=look)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert server.problem is None


def _ask(
    server: MetricsServer, path: str, *headers: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer."""
    lines = [f"{method} {path} HTTP/1.1", *(headers or ("Host: 127.0.0.1",)), "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall("\r\n".join(lines).encode())
        said = b""
        with suppress(ConnectionError):
            while part := client.recv(65536):
                said += part
    head, _, body = said.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in rest)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize("path", ["/", "/process/1000", "/host.json", "/process/1000.json"])
def test_every_answer_has_the_headers_of_a_careful_server(path: str) -> None:
    with _server() as server:
        status, headers, body = _ask(server, path)
    assert status == 200
    assert body
    assert headers.items() >= _WANTED.items()
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert not [name for name in headers if name.startswith("access-control")]
    assert "set-cookie" not in headers
    kind = "application/json" if path.endswith(".json") else "text/html; charset=utf-8"
    assert headers["content-type"] == kind


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_the_answers_for_prometheus_are_as_before(path: str) -> None:
    with _server() as server:
        status, headers, _ = _ask(server, path, "Host: anything.example")
    assert status == 200
    assert headers.keys() == {"content-type", "content-length", "connection"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9467", 200),
        ("[::1]:9467", 200),
        ("192.168.1.7", 200),
        ("localhost:9467", 200),
        (socket.gethostname(), 200),
        (socket.gethostname().upper(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("0x7f000001.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_another_site_controls_is_refused(host: str, status: int) -> None:
    """Its owner could give it this address (DNS rebinding), and read the page from its own."""
    with _server() as server:
        for path in ("/", "/host.json", "/process/1000.json"):
            assert _ask(server, path, f"Host: {host}")[0] == status


def test_another_site_may_not_fetch_the_data() -> None:
    with _server() as server:
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            asked = _ask(server, "/host.json", "Host: localhost", f"Sec-Fetch-Site: {site}")
            assert asked[0] == status
        link = _ask(server, "/", "Host: localhost", "Sec-Fetch-Site: cross-site")
        assert link[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("PUT", "/host.json", 405),
        ("OPTIONS", "/host.json", 405),
        ("GET", "/process/", 404),
        ("GET", "/process/0", 404),
        ("GET", "/process/-1.json", 404),
        ("GET", "/process/1000/", 404),
        ("GET", "/process/99999999999.json", 404),
        ("GET", "/process/1000.json/../../etc/passwd", 404),
        ("GET", "/process/%31000", 404),
        ("GET", "/process/9999.json", 404),
        ("GET", "/host.json?x=1", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/host.json", 200),
    ],
)
def test_it_is_read_only_and_knows_its_paths(method: str, path: str, status: int) -> None:
    with _server() as server:
        answered = _ask(server, path, "Host: localhost", "Content-Length: 0", method=method)
        assert answered[0] == status
        assert bool(answered[2]) == (method != "HEAD")


def test_the_data_are_those_of_the_view() -> None:
    with _server() as server:
        data = json.loads(_ask(server, "/host.json")[2])
        one = json.loads(_ask(server, "/process/1000.json")[2])
    view = host_view()
    empty = {p.pid: p.snapshot.now.empty for p in view.processes if p.snapshot}
    assert {row["pid"]: row["empty"] for row in data["processes"] if row["empty"] is not None} == (
        empty
    )
    assert data["empty"] == sum(empty.values())
    assert data["cost"]["lost"] == view.cost.lost
    process = next(p for p in view.processes if p.pid == 1000)
    assert process.snapshot
    assert one["document"]["processes"] == [process.snapshot.as_json()]


def test_the_page_is_gzipped_on_request() -> None:
    with _server() as server:
        plain = _ask(server, "/")[2]
        _, headers, zipped = _ask(server, "/", "Host: localhost", "Accept-Encoding: gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped) == plain


def test_a_page_looks_at_nothing() -> None:
    looked: list[int | None] = []

    def look(pid: int | None) -> HostView:
        looked.append(pid)
        return _view(pid)

    with _server(look) as server:
        for _ in range(3):
            _ask(server, "/")
            _ask(server, "/process/1000")
        assert looked == []
        _ask(server, "/host.json")
        assert looked == [None]


def test_clients_that_ask_for_much_take_a_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "_LONGEST_REST", 0.5)
    busy: list[float] = []

    def look(pid: int | None) -> HostView:
        begin = time.monotonic()
        time.sleep(0.05)
        if pid is not None:  # else it is for /metrics
            busy.append(time.monotonic() - begin)
        return _view(pid)

    with _server(look) as server:
        stop = time.monotonic() + 5
        statuses: list[int] = []

        def client(number: int) -> None:
            at = number
            while time.monotonic() < stop:
                at += 1
                statuses.append(_ask(server, f"/process/{1000 + at % 50}.json")[0])

        threads = [threading.Thread(target=client, args=(number,)) for number in range(40)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() < stop:
            asked = time.monotonic()
            assert _ask(server, "/metrics")[0] == 200
            assert time.monotonic() - asked < 20
        for thread in threads:
            thread.join()
        passed = time.monotonic() - begin
    assert sum(busy) < 0.3 * passed
    assert set(statuses) <= {200, 404, 503}
    assert 503 in statuses


def test_clients_that_do_not_read_do_not_make_the_server_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each may hold only the part that it has not read yet."""
    many = [replace(host_view().processes[0], pid=n, cgroup="/" + "x" * 20_000) for n in range(400)]
    large = replace(host_view(), processes=many)
    with _server(lambda _: large) as server:
        clients = []
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(b"GET /host.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            clients.append(client)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(server._open) < len(clients):
            time.sleep(0.05)
        status, _, body = _ask(server, "/host.json")
        assert status == 200
        assert len(body) > 4 << 20
        for client in clients:
            client.close()
