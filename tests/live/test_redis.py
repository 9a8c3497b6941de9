"""A real Redis on jemalloc, filled, flushed and refilled, against the probe-less truth."""

import threading
import time

import pytest

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


def test_empty_pte_pages_equal_the_truth() -> None:
    # A steady purge in many small steps, so that slots are emptied piece by piece.
    settings = f"dirty_decay_ms:{_DECAY_MS}"
    with private_redis(MALLOC_CONF=settings) as redis, attached(redis.pid) as session:
        worker = threading.Thread(target=_work, args=(redis,))
        worker.start()
        while worker.is_alive():
            session.pump()
            time.sleep(0.002)
        worker.join()
        found = quiet_truth(session)
        session.stop()
        report = session.snapshot()
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
