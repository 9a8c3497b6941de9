# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope doctor` on a host where all checks pass."""

import subprocess
import sys
from pathlib import Path

import pytest

from shadow.policy import Policy
from tracer import kernel
from tracer.procfs import vm_pte_kib

pytestmark = pytest.mark.alone


def test_all_checks_pass_on_this_host() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ptescope"), "doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [
        ["ok", name] for name in ("kernel", "bcc", "BTF", "probes", "reader", "pagemap")
    ]
    ways = {line.split()[0] for line in lines if line.startswith(" ")}
    assert ways >= {"tracepoint", "raw_tracepoint"}


def test_growth_of_the_heap_does_not_hide_the_policy_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The heap may take PTE pages while the kernel's policy is being tried."""
    growth = iter([0, 12, 12, 24])
    monkeypatch.setattr(kernel, "vm_pte_kib", lambda pid: vm_pte_kib(pid) + next(growth))
    assert kernel.kernel_facts().policy is Policy.PT_RECLAIM
