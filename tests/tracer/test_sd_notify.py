# SPDX-License-Identifier: GPL-2.0-only
"""Variables of a service manager, valid and invalid."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tracer.daemon import sd_notify as notifying
from tracer.daemon.sd_notify import notify, watchdog_seconds


@pytest.fixture(autouse=True)
def _first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    notifying._warn.cache_clear()
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_receives_the_message(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"@ptescope-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert manager.recv(64) == b"READY=1"


@pytest.mark.parametrize(
    "address",
    [
        "/no/such/socket",
        "@nobody-listens-here",
        "/" + "x" * 200,
        "@" + "x" * 200,
        "@",
        "/",
        "relative",
        "vsock:2:1234",
        "vsock-stream:2:1234",
        "\udcff",
        "/\udcff",
        " ",
    ],
)
def test_an_unreachable_manager_is_reported_once(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    for _ in range(3):
        notify("WATCHDOG=1")
    assert len(caplog.records) == 1
    assert "NOTIFY_SOCKET" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_file_that_is_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "file"))
    notify("READY=1")
    assert "cannot be reached" in caplog.text


def test_a_manager_that_does_not_read_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"x", str(tmp_path / "notify"))
        begin = time.monotonic()
        notify("WATCHDOG=1")
        assert time.monotonic() - begin < 3


def test_seconds_of_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    assert watchdog_seconds() == 2.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 2.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


@pytest.mark.parametrize(
    "text", ["soon", "-1", "0", "1e6", "1_000", "9" * 5000, "٣", "2000000 ", "0x10", "nan", "1.5"]
)
def test_an_invalid_watchdog_setting_is_ignored_and_reported(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert watchdog_seconds() is None
    assert "WATCHDOG_USEC" in caplog.text
