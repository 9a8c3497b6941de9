# SPDX-License-Identifier: GPL-2.0-only
"""The socket on which the daemon serves `ptescope top`: for its group, with the whole view."""

import http.client
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shadow.errors import NotPermittedError, PtescopeError, UsageError
from shadow.host_view import HostView
from shadow.report.view_bytes import view_from_bytes, view_to_bytes
from tests.shadow.hosts import host_view
from tracer.daemon.listeners import listen_on_path
from tracer.daemon.server import MetricsServer
from tracer.daemon.view_client import DaemonViews, _Connection


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can reach; pytest's are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _look(pid: int | None) -> HostView:
    if pid == 404:
        raise PtescopeError("the host is gone")
    if pid == 503:
        raise TimeoutError("the host was not read within 10 s")
    return replace(host_view(), slots_of=pid, slots={1 << 40: 7} if pid else {})


@pytest.fixture
def path(folder: Path) -> Iterator[Path]:
    """The socket of a server."""
    path = folder / "daemon.sock"
    server = MetricsServer(host_view, "127.0.0.1", 0, top=3, look=_look, socket_path=path)
    server.start()
    yield path
    server.stop()


def test_a_view_arrives_as_it_was_made(path: Path) -> None:
    views = DaemonViews(path)
    for pid in (None, 17):
        assert replace(views.ask(pid), time_ns=0) == replace(_look(pid), time_ns=0, cells=None)


def test_names_of_any_bytes_arrive() -> None:
    view = host_view()
    strange = replace(view.processes[0], comm="a\udc80\x1b[31m")
    found = view_from_bytes(view_to_bytes(replace(view, processes=[strange])))
    assert found.processes[0].comm == "a\\x80\x1b[31m"


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", b"\x91" * 100_000, b"<html>"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PtescopeError, match="restart the daemon"):
        view_from_bytes(data)


def test_problems_of_the_daemon_arrive(path: Path) -> None:
    for pid, message in ((404, "the host is gone"), (503, "not read within 10 s")):
        with pytest.raises(TimeoutError, match=message):
            DaemonViews(path).ask(pid)


@pytest.mark.parametrize("target", ["/metrics", "/", "/view?pid=x", "/view?pid=99999999999"])
def test_the_socket_serves_views_only(path: Path, target: str) -> None:
    connection = _Connection(path)
    connection.request("GET", target)
    assert connection.getresponse().status == (400 if "pid" in target else 404)
    connection.close()


def test_the_address_serves_no_views() -> None:
    server = MetricsServer(host_view, "127.0.0.1", 0, top=3)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/view")
    assert connection.getresponse().status == 404
    connection.close()
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("member", [True, False])
def test_only_the_group_may_ask(path: Path, member: bool) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    os.chown(path, 0, 54321)
    code = (
        "import os; from pathlib import Path; from tracer.daemon.view_client import DaemonViews\n"
        f"os.setgroups([{54321 if member else 54322}]); os.setuid(65534)\n"
        f"print(DaemonViews(Path({str(path)!r})).ask().hostname)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    if member:
        assert done.stdout == f"{host_view().hostname}\n", done.stderr
    else:
        assert NotPermittedError.__name__ in done.stderr
        assert "usermod -aG ptescope" in done.stderr


def test_a_socket_that_was_left_is_replaced_and_a_file_is_not(folder: Path) -> None:
    path = folder / "left"
    listen_on_path(path).close()
    assert path.is_socket()
    made = listen_on_path(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    made.close()
    file = folder / "file"
    file.write_text("mine")
    for taken in (file, folder / "none" / "socket", folder / ("x" * 200)):
        with pytest.raises(UsageError, match="cannot be made"):
            listen_on_path(taken)
    assert file.read_text() == "mine"


def test_without_a_daemon_the_message_says_what_to_do(folder: Path) -> None:
    with pytest.raises(PtescopeError, match="systemctl start ptescope"):
        DaemonViews(folder / "none").ask()
