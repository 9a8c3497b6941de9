# SPDX-License-Identifier: GPL-2.0-only
"""The limits of the daemon."""

import subprocess
import sys
import time

import pytest

from tracer.daemon.limits import CpuBudget, memory_bytes, shadow_cost

_GIVE_BACK = """
from tracer.daemon.memory_trim import give_back
from tracer.daemon.limits import memory_bytes
import llvmlite.binding as binding
binding.initialize_native_target()
before = memory_bytes()
give_back()
after = memory_bytes()
assert binding.get_default_triple()
print(before - after)
"""


def test_a_share_of_cpu_is_measured_over_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBudget, "window", 0.1)
    budget = CpuBudget(0.05)
    assert budget.over() is None
    time.sleep(0.15)
    assert budget.over() is False
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert budget.over() is True


def test_a_million_pte_pages_cost_what_was_measured() -> None:
    assert shadow_cost(4_000_000) == pytest.approx(1.1e9, rel=0.01)
    assert memory_bytes() > 10 << 20


def test_compilers_free_memory_and_still_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _GIVE_BACK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1 << 20
