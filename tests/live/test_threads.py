# SPDX-License-Identifier: GPL-2.0-only
"""A multi-threaded program on LD_PRELOADed jemalloc that purges and faults at once."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.live.attached import hardly_any_lost, quiet_truth, watching
from tracer.follow.session import Session

_LIBRARY = "libjemalloc.so.2"
# Two background threads purge while four others fault. THP is off, so that pagemap
# shows all entries.
_SETTINGS = "background_thread:true,dirty_decay_ms:300,muzzy_decay_ms:0"


def test_four_threads_and_background_purging() -> None:
    with watching() as attach:
        _follow(attach)


def _follow(attach: Callable[[int], Session]) -> None:
    environment = os.environ | {"LD_PRELOAD": _LIBRARY, "MALLOC_CONF": _SETTINGS}
    program = subprocess.Popen(
        [sys.executable, "-m", "tools.workloads.churn", "4", "6"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        time.sleep(1)
        session = attach(program.pid)
        assert program.stdout
        while not select.select([program.stdout], [], [], 0.002)[0]:
            session.pump()
        deadline = time.monotonic() + 3  # let the background threads purge
        while time.monotonic() < deadline:
            session.pump()
            time.sleep(0.01)
        found = quiet_truth(session)
        session.stop()
        report = session.snapshot()
    finally:
        program.kill()
        program.communicate()
    assert report.process.allocator is not None
    assert report.process.allocator.linked is not None
    assert _LIBRARY in report.process.allocator.linked
    assert hardly_any_lost(report)
    assert report.window.events["fault"] > 100_000
    assert report.window.events["dontneed"] > 100
    assert report.now.empty == found.empty
    assert report.now.pte_pages == found.pte_pages
    assert report.now.refs == pytest.approx(found.entries, rel=0.001)
