# SPDX-License-Identifier: GPL-2.0-only
"""The HTML page of live processes: the same document as --json, in a private file."""

import base64
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.actor import SLOT, Actor

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000
_SLOTS = 40


@pytest.fixture
def actor() -> Iterator[Actor]:
    """A process that maps some slots."""
    child = Actor()
    child.map(_BASE, _SLOTS * SLOT)
    child.advise(_BASE, _SLOTS * SLOT, 15)  # MADV_NOHUGEPAGE
    yield child
    child.close()


def _empty_half(actor: Actor) -> None:
    """Touch all slots, and empty half of them by calls that leave the PTE pages."""
    actor.touch(_BASE, _SLOTS * SLOT, SLOT // 4)
    for slot in range(0, _SLOTS, 2):
        for half in range(2):
            actor.advise(_BASE + slot * SLOT + half * SLOT // 2, SLOT // 2, 4)


def _parts(page: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document inside the page, and the rest of its data."""
    found = re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', page.read_text())
    document, more = map(json.loads, found)
    return document, more


def _run(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [_PTESCOPE, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def _moments(more: dict[str, Any]) -> list[dict[str, Any]]:
    packed = more["processes"][0]["moments"]
    return json.loads(zlib.decompress(base64.b64decode(packed)))  # type: ignore[no-any-return]


def test_attach_writes_what_json_prints_and_the_course_of_time(
    actor: Actor, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    command = ["attach", "-p", str(actor.pid), "--json", "--html", str(page)]
    with subprocess.Popen(
        [_PTESCOPE, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as attach:
        assert attach.stderr
        while "following" not in attach.stderr.readline():
            assert attach.poll() is None
        time.sleep(1)
        _empty_half(actor)
        time.sleep(1)
        attach.send_signal(signal.SIGINT)
        out, _ = attach.communicate(timeout=120)
    document, more = _parts(page)
    assert document == json.loads(out)
    assert page.stat().st_mode & 0o777 == 0o600
    now = document["processes"][0]["now"]
    assert now["empty"] >= _SLOTS // 2
    moments = _moments(more)
    assert moments[-1]["now"] == now
    assert moments[0]["now"]["empty"] < now["empty"]
    assert more["processes"][0]["points"]
    assert more["processes"][0]["cells"]["slots"] >= now["pte_pages"]


def test_census_and_advise_write_theirs(actor: Actor, tmp_path: Path) -> None:
    _empty_half(actor)
    page = tmp_path / "page.html"
    out = _run("census", str(actor.pid), "--json", "--html", str(page))
    document, more = _parts(page)
    assert document == json.loads(out)
    assert more["processes"][0]["points"] is None
    assert more["processes"][0]["cells"]["slots"] == document["processes"][0]["now"]["pte_pages"]
    command = ["advise", "-p", str(actor.pid), "-d", "1", "--json", "--html", str(page)]
    _run(*command, status=2)  # it exists
    out = _run(*command, "--force")
    assert _parts(page)[0] == json.loads(out)
    assert "advice" in _parts(page)[0]["processes"][0]


def test_a_failed_run_leaves_the_old_page(actor: Actor, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old")
    actor.close()
    for command in (["attach", "-p"], ["census"], ["advise", "-p"]):
        _run(*command, str(actor.pid), "--html", str(page), "--force", status=3)
        assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.alone
def test_the_daemon_serves_a_process_as_it_is(actor: Actor) -> None:
    command = [_PTESCOPE, "daemon", "--listen", "127.0.0.1:0", "--min-vmpte", "64K"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stderr
            address = daemon.stderr.readline().split()[-1].removesuffix("/metrics")
            deadline = time.monotonic() + 60
            followed: set[int] = set()
            while actor.pid not in followed:
                assert time.monotonic() < deadline
                time.sleep(0.5)
                rows = _get(f"{address}/host.json")["processes"]
                followed = {row["pid"] for row in rows if row["following"] == "followed"}
            _empty_half(actor)
            while True:
                data = _get(f"{address}/process/{actor.pid}.json")
                now = data["document"]["processes"][0]["now"]
                if now["empty"] >= _SLOTS // 2:
                    break
                assert time.monotonic() < deadline
                time.sleep(0.5)
            cells = data["more"]["cells"]
            assert cells["slots"] >= now["pte_pages"]
            assert "MADV_DONTNEED" in cells["emptied"]["calls"]
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=60)
