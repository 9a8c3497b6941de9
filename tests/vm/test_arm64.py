# SPDX-License-Identifier: GPL-2.0-only
"""arm64 kernels: page tables are read to the byte, and the policy is found by trying.

One kernel by default, and with --all-kernels those of 4 and 16 KiB pages and both policies. Traces
of both architectures replay to the same byte here and there. Debian has no kernel with pages of
64 KiB, so their page tables are tested on made ones (tests/tracer/test_walk.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shadow.geometry import find_geometry
from shadow.policy import Policy
from tests.vm.reading import INACCESSIBLE, PAGES
from tests.vm.replayed import HELD, digest_of
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel
from tools.vm_guests.machines import MACHINES

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 600.0


@dataclass(frozen=True)
class _Kernel:
    """A kernel to boot, and what is known of it."""

    flavour: str
    series: str
    page: int
    policy: Policy


_KERNELS = (
    _Kernel("arm64", "6.12", 1 << 12, Policy.NONE),
    _Kernel("arm64", "7.x", 1 << 12, Policy.PT_RECLAIM),
    _Kernel("arm64-16k", "6.12", 1 << 14, Policy.NONE),
    _Kernel("arm64", "6.1", 1 << 12, Policy.NONE),
    _Kernel("arm64", "6.18", 1 << 12, Policy.NONE),
)
_ON_EVERY_RUN = 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = metafunc.config.getoption("--all-kernels")
    kernels = _KERNELS if every else _KERNELS[:_ON_EVERY_RUN]
    metafunc.parametrize("kernel", kernels, ids=lambda each: f"{each.flavour}-{each.series}")


def test_page_tables_are_read_and_traces_replayed_to_the_byte(kernel: _Kernel) -> None:
    machine = MACHINES[kernel.flavour]
    guest = Guest(get_kernel(kernel.series, machine), machine=machine)
    assert machine.python
    command = [str(machine.python), "-m", "tests.vm.reading"]
    outcome = guest.run(command, _ROOT, timeout=_TIMEOUT)
    assert outcome.status == 0, outcome.err
    said: dict[str, list[dict[str, Any]]] = {}
    for line in outcome.out.splitlines():
        each = json.loads(line)
        said.setdefault(each.pop("check"), []).append(each)
    (facts,), (own,) = said["kernel"], said["own"]
    assert facts["release"].startswith(kernel.series.removesuffix("x"))
    geometry = find_geometry("arm64", kernel.page, facts["levels"])
    assert facts["geometry"] == geometry.name
    assert facts["policy"] == kernel.policy.label
    # Inaccessible pages have entries; the page that was given back has none, and leaves its table.
    assert own["slots"] == [PAGES, 0, 1, 1, None]
    assert own["entries"]["present"] >= PAGES + 2
    assert own["entries"]["swap"] == own["entries"]["migration"] == own["entries"]["marker"] == 0
    assert INACCESSIBLE < PAGES
    assert said["process"]
    for process in said["process"]:
        assert process["sum_kib"] == process["vm_pte_kib"], process
        assert process["oracle_equal"], process
    builds = {library["name"]: library["builds"] for library in said["library"]}
    assert builds == {"libjemalloc.so.2": ["jemalloc"], "libc.so.6": ["glibc"]}
    digests = {replay["trace"]: replay["digest"] for replay in said["replay"]}
    assert digests == {path.name: digest_of(path) for path in HELD}
