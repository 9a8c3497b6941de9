# SPDX-License-Identifier: GPL-2.0-only
"""A real Prometheus scrapes the daemon; the alert rules and the dashboard use existing metrics."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from tests.shadow.hosts import host_view
from tracer.daemon import service
from tracer.daemon.server import MetricsServer

pytestmark = pytest.mark.alone

_SERVICE = Path(service.__file__).parent
_RULES = _SERVICE / "ptescope.rules.yml"
_RULES_TEST = Path(__file__).with_name("ptescope.rules.test.yml")
_CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: ptescope
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
rule_files: ["{rules}"]
"""


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _query(port: int, expression: str) -> list[tuple[dict[str, str], float]]:
    query = urllib.parse.urlencode({"query": expression})
    answer = json.loads(_get(f"http://127.0.0.1:{port}/api/v1/query?{query}"))
    return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]


@pytest.mark.parametrize("check", [["check", "rules"], ["test", "rules"]], ids="-".join)
def test_the_alert_rules_are_valid_and_fire_as_expected(check: list[str]) -> None:
    path = _RULES if check[0] == "check" else _RULES_TEST
    done = subprocess.run(["promtool", *check, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_one_for_grafana() -> None:
    """Grafana's own models of its schema know every key, and give the same dashboard back."""
    plugins.register_default_plugins()
    plain = json.loads((_SERVICE / "ptescope.dashboard.json").read_text())
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(plain)))
    assert len(known["panels"]) == 14
    assert _lost(plain, known) == []
    plain["panels"][0]["target"] = []
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(plain)))
    assert _lost(plain, known) == ["/panels/0/target"]


def _lost(plain: object, known: object, at: str = "") -> list[str]:
    """Where `known` lacks or changes what `plain` has."""
    if isinstance(plain, dict) and isinstance(known, dict):
        keys = [(key, plain[key], known.get(key)) for key in plain]
    elif isinstance(plain, list) and isinstance(known, list) and len(plain) == len(known):
        keys = [(str(n), *pair) for n, pair in enumerate(zip(plain, known, strict=True))]
    else:
        return [] if plain == known else [at]
    return [place for key, old, new in keys for place in _lost(old, new, f"{at}/{key}")]


def test_rules_and_dashboard_use_existing_metrics() -> None:
    server = MetricsServer(host_view, "127.0.0.1", 0, top=3)
    server.start()
    try:
        text = _get(f"http://127.0.0.1:{server.port}/metrics")
    finally:
        server.stop()
    there = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    for path in (_RULES, _SERVICE / "ptescope.dashboard.json"):
        used = set(re.findall(r"\bptescope_\w+", path.read_text()))
        assert used
        assert used <= there
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_real_prometheus_scrapes(tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    assert prometheus, "apt-get install prometheus"
    server = MetricsServer(host_view, "127.0.0.1", 0, top=3)
    server.start()
    config = tmp_path / "prometheus.yml"
    config.write_text(_CONFIG.format(port=server.port, rules=_RULES))
    with subprocess.Popen(
        [
            *(prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"),
            "--web.listen-address=127.0.0.1:19467",
        ],
        stderr=subprocess.DEVNULL,
    ) as scraper:
        try:
            deadline = time.monotonic() + 30
            found: list[tuple[dict[str, str], float]] = []
            while not found:
                assert time.monotonic() < deadline
                time.sleep(0.5)
                try:
                    found = _query(19467, 'ptescope_process_empty_pte_pages{name="server-0"}')
                except OSError:
                    continue
            ((labels, value),) = found
            view = host_view()
            (process,) = [p for p in view.processes if p.comm == "server-0"]
            assert process.snapshot
            assert value == process.snapshot.now.empty
            assert labels["pid"] == str(process.pid)
            (_, total) = _query(19467, "sum(ptescope_process_page_table_bytes)")[0]
            assert total == sum(p.vm_pte_kib for p in view.processes) * 1024
            assert [value for _, value in _query(19467, "up")] == [1.0]
        finally:
            scraper.terminate()
            server.stop()
