# SPDX-License-Identifier: GPL-2.0-only
"""A fleet: two daemons, a real Prometheus with the configuration of the docs, and their traces."""

import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import polars
import pytest
from moto.server import ThreadedMotoServer

from tracer.daemon.service import service_file

pytestmark = pytest.mark.alone

_ROOT = Path(__file__).parents[2]
_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_PORTS, _PROMETHEUS, _S3 = (19471, 19472), 19473, 19475
_SLOTS = 66_000
"""Empty PTE pages: more than 256 MiB, as the alert wants."""
_WASTE = f"""
import mmap, sys
area = mmap.mmap(-1, {_SLOTS + 2} << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
area.madvise(mmap.MADV_NOHUGEPAGE)
for slot in range({_SLOTS}):
    area[slot << 21] = 1
    area.madvise(mmap.MADV_DONTNEED, slot << 21, 4096)
print("ready", flush=True)
sys.stdin.read()
"""


def _wait(until: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := until():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, until
        time.sleep(0.3)


def _get(port: int, path: str, **query: str) -> Any:
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


@contextmanager
def _running(*words: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.send_signal(signal.SIGTERM)


def _configuration(folder: Path) -> Path:
    """The configuration that the docs show, for hosts on two ports of this one."""
    page = (_ROOT / "docs/how-to/fleet.md").read_text()
    (found,) = re.findall(r"```yaml title=\S*prometheus.yml\"\n(.*?)```", page, re.S)
    for number, port in enumerate(_PORTS):
        found = found.replace(f"10.0.0.1{number + 1}:9467", f"127.0.0.1:{port}")
    config = folder / "prometheus.yml"
    config.write_text(found.replace("15s", "3s"))
    rules, count = re.subn(r"for: 15m", "for: 1s", service_file("rules"))
    assert count == 1
    (folder / "ptescope.rules.yml").write_text(rules)
    subprocess.run(["promtool", "check", "config", str(config)], check=True, capture_output=True)
    return config


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two daemons, whose alert fires in Prometheus; returns the folders of their traces."""
    folder = tmp_path_factory.mktemp("fleet")
    folders = [folder / "web1", folder / "web2"]
    data = folder / "data"
    config = _configuration(folder)
    prometheus = ("prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}")
    listen = f"--web.listen-address=127.0.0.1:{_PROMETHEUS}"
    with _running(sys.executable, "-c", _WASTE) as waste:
        assert waste.stdout
        assert waste.stdout.readline() == "ready\n"
        daemons = []
        for place, port in zip(folders, _PORTS, strict=True):
            place.mkdir()
            options = ["--listen", f"127.0.0.1:{port}", "--record-dir", str(place)]
            options += ["--min-vmpte", "64M", "--config", "/dev/null"]
            daemons.append(_running(_PTESCOPE, "daemon", *options))
        with daemons[0], daemons[1], _running(*prometheus, listen):
            _check_alerts(waste.pid)
    return folders


def _check_alerts(pid: int) -> None:
    def firing() -> list[dict[str, str]]:
        alerts = _get(_PROMETHEUS, "/api/v1/alerts")["alerts"]
        return [
            alert["labels"]
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"]["alertname"] == "EmptyPageTables"
        ]

    _wait(lambda: len(firing()) == 2)
    assert {labels["instance"] for labels in firing()} == {f"127.0.0.1:{p}" for p in _PORTS}
    assert {labels["pid"] for labels in firing()} == {str(pid)}
    query = "sum by (instance) (ptescope_cgroup_empty_pte_pages) * 4096 > 256 * 1024 * 1024"
    _wait(lambda: len(_get(_PROMETHEUS, "/api/v1/query", query=query)["result"]) == 2)


def _replayed(place: str, folder: Path, *options: str) -> list[tuple[int, int, int]]:
    """The pid, PTE pages and empty ones of the largest process in each trace."""
    table = folder / "fleet.parquet"
    done = subprocess.run(
        [_PTESCOPE, "replay", place, "--parquet", str(table), "--force", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = polars.read_parquet(table).filter(polars.col("empty") >= _SLOTS)
    return sorted(rows.select("pid", "pte_pages", "empty").rows())


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A Dask cluster of one worker."""
    port = 19474
    dask = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard")
    worker = (sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard")
    address = f"tcp://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{_S3}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with (
            _running(*dask, "--host", "127.0.0.1", "--port", str(port)),
            _running(*worker, address, "--nthreads", "1", "--no-nanny"),
        ):
            yield address


def test_an_alert_fires_and_the_traces_of_both_replay(traces: list[Path], tmp_path: Path) -> None:
    rows = _replayed(f"{traces[0].parent}/*/*.arrows", tmp_path)
    assert len(rows) == 2
    assert rows[0] == rows[1]


def test_traces_of_an_object_store_replay_on_a_cluster(
    traces: list[Path], scheduler: str, tmp_path: Path
) -> None:
    server = ThreadedMotoServer("127.0.0.1", _S3, verbose=False)
    server.start()
    try:
        store = fsspec.filesystem("s3", endpoint_url=f"http://127.0.0.1:{_S3}", key="x", secret="x")
        store.mkdir("traces")
        for folder in traces:
            for path in folder.glob("*.arrows"):
                store.put(str(path), f"traces/{folder.name}/{path.name}")
        found = [
            _replayed("s3://traces/*/*.arrows", tmp_path, *options)
            for options in ((), ("--dask", scheduler))
        ]
    finally:
        server.stop()
    local = _replayed(f"{traces[0].parent}/*/*.arrows", tmp_path)
    assert len(local) == 2
    assert found == [local, local]


def test_traces_of_a_web_server_replay(traces: list[Path], tmp_path: Path) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(traces[0].parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (path,) = traces[0].glob("*.arrows")
    try:
        url = f"http://127.0.0.1:{server.server_port}/web1/{path.name}"
        assert _replayed(url, tmp_path) == _replayed(str(path), tmp_path) != []
    finally:
        server.shutdown()
