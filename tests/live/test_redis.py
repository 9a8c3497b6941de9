# SPDX-License-Identifier: GPL-2.0-only
"""A real Redis on jemalloc, filled and flushed, compared with a reading without probes."""

import json
import threading
import time
from pathlib import Path

import pytest

from shadow.replay import Question, replay_one
from shadow.snapshot import document
from shadow.trace import TraceWriter
from tests.live.attached import attached, hardly_any_lost, quiet_truth
from tools.workloads.redis import Redis, private_redis

_DECAY_MS = 3000


def _work(redis: Redis) -> None:
    redis.fill(1_200_000, 200)
    redis.flush()
    time.sleep(1.5 * _DECAY_MS / 1000)
    redis.fill(150_000, 1500, "second")
    redis.delete_most(150_000, 50, "second")
    time.sleep(1.5 * _DECAY_MS / 1000)
    redis.fill(50_000, 300, "third")


def test_empty_pte_pages_equal_the_truth_and_a_replay_says_the_same(tmp_path: Path) -> None:
    # jemalloc purges steadily in many small steps, so slots become empty piece by piece.
    settings = f"dirty_decay_ms:{_DECAY_MS}"
    writer = TraceWriter(tmp_path / "redis.arrows")
    writer.start()
    with (
        private_redis(MALLOC_CONF=settings) as redis,
        attached(redis.pid, tee=writer.tee()) as session,
    ):
        worker = threading.Thread(target=_work, args=(redis,))
        worker.start()
        next_audit = time.monotonic()
        while worker.is_alive():
            session.pump()
            time.sleep(0.002)
            if time.monotonic() > next_audit:
                session.audit()
                next_audit += 1
        worker.join()
        found = quiet_truth(session)
        session.stop()
        report = session.snapshot(slots=True)
    writer.close()
    replayed = replay_one(str(tmp_path / "redis.arrows"), Question(slots=True))
    assert replayed.problem is None
    assert json.dumps(document([each.snapshot for each in replayed.followed])) == json.dumps(
        document([report])
    )
    assert report.audit.runs > 5
    assert hardly_any_lost(report)
    assert report.window.events["fault"] > 100_000
    assert report.window.events["dontneed"] > 1000
    assert report.now.empty == found.empty
    assert report.now.pte_pages == found.pte_pages
    assert report.now.refs == pytest.approx(found.entries, rel=0.001)
    assert found.empty > 0
    assert report.now.vm_pte_predicted_kib == report.now.vm_pte_kib
    assert report.audit.pte_pages_diff == report.audit.empty_missing == 0
    assert report.audit.empty_extra == 0
    assert report.process.allocator is not None
    assert report.process.allocator.name == "jemalloc"
    assert report.process.allocator.version == "5.3.0"
