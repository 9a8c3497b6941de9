# SPDX-License-Identifier: GPL-2.0-only
"""Checks on every kernel: census, shadow, a reading without BPF, and traces between kernels.

6.1 and 6.18 by default, 6.12 and the newest 7 as well with --all-kernels. A kernel that
cannot be fetched or does not boot is a failure that names it.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.replay import Replay, open_trace
from shadow.snapshot import document
from tests.vm.guest import AREA, in_area
from tests.vm.outcomes import PINNED
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel
from tracer.probes.sources import SOURCES, Backend

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 1500.0
"""For a guest that hangs. One takes 100 s, and several times that beside other tests."""

_NOT_YET = {"PTE page freed by RCU", "mseal", "map_shadow_stack", "direct I/O", "io_uring"}
"""Sources that 6.1 lacks: pte_free_defer came with v6.6, the calls and tracepoints later."""
_NOT_PROVOKED = {"direct I/O", "io_uring", "32-bit calls"}
_AT_RAW_TRACEPOINTS = {"direct I/O", "io_uring", "fork", "exec", "exit"}


@dataclass(frozen=True)
class _Machine:
    """A kernel to boot, and its known policy."""

    series: str
    levels: int
    policy: Policy


_MACHINES = (
    _Machine("6.1", 4, Policy.NONE),
    _Machine("6.18", 5, Policy.PT_RECLAIM),
    _Machine("6.12", 4, Policy.NONE),
    _Machine("7.x", 4, Policy.PT_RECLAIM),
)
_ON_EVERY_RUN = 2


@dataclass(frozen=True)
class _GuestRun:
    """The output of `tests.vm.guest` by check, and its folder."""

    folder: Path
    checks: dict[str, list[dict[str, Any]]]

    def one(self, check: str) -> dict[str, Any]:
        (found,) = self.checks[check]
        return found


def _run(machine: _Machine, folder: Path) -> _GuestRun:
    guest = Guest(
        get_kernel(machine.series),
        levels=machine.levels,
        share=folder,
    )
    command = [sys.executable, "-m", "tests.vm.guest", str(folder)]
    outcome = guest.run(command, _ROOT, timeout=_TIMEOUT)
    assert outcome.status == 0, f"{machine.series}: {outcome.err}"
    checks: dict[str, list[dict[str, Any]]] = {}
    for line in outcome.out.splitlines():
        said = json.loads(line)
        checks.setdefault(said.pop("check"), []).append(said)
    return _GuestRun(folder, checks)


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[_GuestRun]]]:
    """Run all machines, two at a time, by series; first compile the table, which they share."""
    prepare()
    with ThreadPoolExecutor(2) as pool:
        yield {
            machine.series: pool.submit(_run, machine, tmp_path_factory.mktemp(machine.series))
            for machine in _machines(request.config)
        }


def _machines(config: pytest.Config) -> tuple[_Machine, ...]:
    return _MACHINES if config.getoption("--all-kernels") else _MACHINES[:_ON_EVERY_RUN]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "machine" in metafunc.fixturenames:
        metafunc.parametrize("machine", _machines(metafunc.config), ids=lambda m: m.series)


@pytest.fixture
def run(runs: dict[str, Future[_GuestRun]], machine: _Machine) -> _GuestRun:
    return runs[machine.series].result()


def _replayed(run: _GuestRun) -> Replay:
    """The replay of the guest's trace."""
    replay = Replay(open_trace(str(run.folder / "trace.arrows")))
    replay.run()
    assert replay.damage is None
    return replay


def test_the_guest_runs_the_requested_kernel(machine: _Machine, run: _GuestRun) -> None:
    kernel = run.one("kernel")
    assert kernel["release"].startswith(machine.series.removesuffix("x"))
    assert kernel["levels"] == machine.levels
    assert kernel["policy"] == machine.policy.label


def test_census_and_shadow_and_oracle_agree_at_every_step(
    machine: _Machine, run: _GuestRun
) -> None:
    for step in run.checks["step"]:
        assert step["sum_kib"] == step["vm_pte_kib"], step
        assert step["oracle_equal"], step
        assert step["shadow_equal"], step
        assert step["lost"] == 0
        assert step["pte_pages"] == step["predicted"][machine.policy.label], step


def test_the_kernel_frees_what_its_policy_says(machine: _Machine, run: _GuestRun) -> None:
    found = {step["name"]: (step["pte_pages"], step["empty"]) for step in run.checks["step"]}
    reclaims = machine.policy is Policy.PT_RECLAIM
    assert found["filled"] == (AREA, 0)
    assert found["DONTNEED, one call"] == ((0, 0) if reclaims else (AREA, AREA))
    assert found["DONTNEED by halves"] == (AREA, AREA)
    assert found["FREE by halves"] == (AREA, 0)
    half = AREA // 2
    assert found["DONTNEED by slots of one half"] == ((half, 0) if reclaims else (AREA, half))


def test_each_experiment_gives_what_the_shadow_says(run: _GuestRun) -> None:
    rows = run.one("rows")
    assert rows["wrong"] == []
    assert len(rows["impossible"]) < rows["tried"] / 5


def test_redis_is_followed_to_the_page(run: _GuestRun) -> None:
    redis = run.one("redis")
    real, known = redis["pte_pages"]
    assert real == known == redis["truth"][0]
    real, known = redis["empty"]
    assert real == known == redis["truth"][1]
    assert redis["lost"] == 0
    assert redis["events"] > 10_000


def test_every_source_is_attached_and_none_is_silent(machine: _Machine, run: _GuestRun) -> None:
    """The kernel refuses only sources that it lacks: pte_free_defer came with v6.6."""
    probes = run.one("probes")
    attached = {name for names in probes["by"].values() for name in names}
    missing = {source.name for source in SOURCES} - attached
    assert probes["silent"] == []
    assert missing <= _NOT_YET if machine.series == "6.1" else not missing
    assert set(probes["by"]["raw_tracepoint"]) == _AT_RAW_TRACEPOINTS - missing
    others = {name for way in set(probes["by"]) - {"fentry", "raw_tracepoint"}
              for name in probes["by"][way]}  # fmt: skip
    assert others <= {"32-bit calls"}
    # process_madvise supports advice that gives memory back since v6.13.
    new = machine.policy is Policy.PT_RECLAIM
    needed = {source.name for source in SOURCES if source.needed}
    assert needed & set(probes["untried"]) == (set() if new else {"process_madvise"})
    assert attached - set(probes["seen"]) - set(probes["untried"]) <= _NOT_PROVOKED


def test_each_back_end_gives_the_same_snapshot(run: _GuestRun) -> None:
    found = {backend["name"]: backend for backend in run.checks["back end"]}
    assert list(found) == list(Backend)
    for name, backend in found.items():
        assert backend["known"] == found[Backend.FENTRY]["known"], name
        assert backend["known"]["window"]["lost"] == 0
        assert backend["known"]["audit"]["refs_diff"] == 0


def test_a_forced_back_end_has_all_sources_that_it_supports(run: _GuestRun) -> None:
    """Tracepoints and raw tracepoints have the others: faults, fork, exec and exit."""
    for backend in run.checks["back end"]:
        name, taken = backend["name"], backend["taken"]
        able = {s.name for s in SOURCES for way in s.methods if way.backend == name}
        assert able - set(taken[name]) <= _NOT_YET | {"32-bit calls"}, name
        assert set(taken) <= {name, "raw_tracepoint"}


def test_functions_show_how_faults_end_and_which_pages_are_pinned(run: _GuestRun) -> None:
    outcomes = run.one("outcomes")
    assert outcomes["pinned"] == PINNED
    assert outcomes["audit"]["runs"] == 1
    assert outcomes["audit"]["refs_diff"] == 0


def test_functions_show_the_number_of_pte_pages(run: _GuestRun) -> None:
    """PTE pages made and freed since the first reading, and those of the shadow at the end."""
    for backend in run.checks["back end"]:
        if backend["name"] in (Backend.FENTRY, Backend.KPROBE):
            more = backend["seen"]["pte_alloc"] - backend["seen"]["pte_free"]
            assert backend["known"]["now"]["pte_pages"] == backend["before"] + more
        else:
            assert not any(backend["seen"].values())


def test_a_trace_of_a_guest_replays_to_an_identical_snapshot(run: _GuestRun) -> None:
    replayed = json.dumps(document(_replayed(run).snapshots(slots=True)))
    assert replayed == (run.folder / "live.json").read_text()


def test_a_trace_of_6_1_predicts_the_pte_pages_of_6_18(runs: dict[str, Future[_GuestRun]]) -> None:
    """The same program, replayed under pt_reclaim, and run on 6.18."""
    old, new = runs["6.1"].result(), runs["6.18"].result()
    (engine,) = _replayed(old).engines.values()
    predicted = in_area(engine.table.slots_of(Policy.PT_RECLAIM).tolist())
    assert len(predicted) == new.checks["step"][-1]["pte_pages"] == AREA // 2
    for was, does in zip(old.checks["step"], new.checks["step"], strict=True):
        assert was["predicted"]["pt_reclaim"] == does["pte_pages"], was["name"]
