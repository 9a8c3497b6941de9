# SPDX-License-Identifier: GPL-2.0-only
"""Checks on every kernel: census, shadow, a reading without BPF, and traces between kernels.

6.1 and 6.18 by default; with --all-kernels 6.12 and the newest 7 as well, and the same on arm64,
there also with pages of 16 KiB. A kernel that cannot be fetched or does not boot is a failure that
names it.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shadow.geometry import find_geometry
from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.replay import Replay, open_trace
from shadow.snapshot import document
from tests.vm.guest import AREA, in_area
from tests.vm.matrix import MATRIX, NOT_YET, ON_EVERY_RUN, Machine
from tests.vm.outcomes import PINNED
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel
from tools.vm_guests.machines import MACHINES
from tracer.probes.sources import Backend

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 1500.0
"""For a guest that hangs. One takes 100 s, and several times that beside other tests."""

_NOT_PROVOKED = {"direct I/O", "io_uring", "32-bit calls"}
_AT_RAW_TRACEPOINTS = {"direct I/O", "io_uring", "fork", "exec", "exit"}


@dataclass(frozen=True)
class _GuestRun:
    """The output of `tests.vm.guest` by check, and its folder."""

    folder: Path
    checks: dict[str, list[dict[str, Any]]]

    def one(self, check: str) -> dict[str, Any]:
        (found,) = self.checks[check]
        return found


def _run(machine: Machine, folder: Path) -> _GuestRun:
    emulated = MACHINES[machine.flavour]
    guest = Guest(
        get_kernel(machine.series, emulated),
        machine=emulated,
        levels=machine.levels,
        share=folder,
    )
    command = [str(emulated.python or sys.executable), "-m", "tests.vm.guest", str(folder)]
    outcome = guest.run(command, _ROOT, timeout=_TIMEOUT)
    (folder / "said.jsonl").write_text(outcome.out)
    assert outcome.status == 0, f"{machine.name}: {outcome.err}"
    checks: dict[str, list[dict[str, Any]]] = {}
    for line in outcome.out.splitlines():
        said = json.loads(line)
        checks.setdefault(said.pop("check"), []).append(said)
    return _GuestRun(folder, checks)


class _Runs:
    """The runs of the machines, two at a time, by name; each begins when it is first asked for."""

    def __init__(self, pool: ThreadPoolExecutor, folders: pytest.TempPathFactory) -> None:
        self._pool, self._folders = pool, folders
        self._futures: dict[str, Future[_GuestRun]] = {}

    def begin(self, machine: Machine) -> Future[_GuestRun]:
        """Begin a run, if it has not begun."""
        if machine.name not in self._futures:
            folder = self._folders.mktemp(machine.name)
            self._futures[machine.name] = self._pool.submit(_run, machine, folder)
        return self._futures[machine.name]

    def __getitem__(self, name: str) -> _GuestRun:
        machine = next(machine for machine in MATRIX if machine.name == name)
        return self.begin(machine).result()


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Runs]:
    """The runs; those of all selected tests begin. First compile the table, which they share."""
    prepare()
    with ThreadPoolExecutor(2) as pool:
        found = _Runs(pool, tmp_path_factory)
        for item in request.session.items:
            parameters = getattr(item, "callspec", None)
            machine = parameters.params.get("machine") if parameters else None
            if isinstance(machine, Machine):
                found.begin(machine)
        yield found


def _machines(config: pytest.Config) -> tuple[Machine, ...]:
    return MATRIX if config.getoption("--all-kernels") else MATRIX[:ON_EVERY_RUN]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "machine" in metafunc.fixturenames:
        metafunc.parametrize("machine", _machines(metafunc.config), ids=lambda m: m.name)


@pytest.fixture
def run(runs: _Runs, machine: Machine) -> _GuestRun:
    return runs[machine.name]


def _replayed(run: _GuestRun) -> Replay:
    """The replay of the guest's trace."""
    replay = Replay(open_trace(str(run.folder / "trace.arrows")))
    replay.run()
    assert replay.damage is None
    return replay


def test_the_guest_runs_the_requested_kernel(machine: Machine, run: _GuestRun) -> None:
    kernel = run.one("kernel")
    assert kernel["release"].startswith(machine.series.removesuffix("x"))
    assert kernel["levels"] == machine.levels
    assert kernel["policy"] == machine.policy.label
    arch = "arm64" if machine.is_arm64 else "x86-64"
    page = MACHINES[machine.flavour].page
    assert kernel["geometry"] == find_geometry(arch, page, machine.levels).name


def test_doctor_finds_nothing_wrong(run: _GuestRun) -> None:
    doctor = run.one("doctor")
    assert doctor["status"] == 0, doctor["out"]
    assert run.one("kernel")["policy"] in doctor["out"]


def test_census_and_shadow_and_oracle_agree_at_every_step(machine: Machine, run: _GuestRun) -> None:
    for step in run.checks["step"]:
        assert step["sum_kib"] == step["vm_pte_kib"], step
        assert step["oracle_equal"], step
        assert step["shadow_equal"], step
        assert step["lost"] == 0
        assert step["pte_pages"] == step["predicted"][machine.policy.label], step


def test_the_kernel_frees_what_its_policy_says(machine: Machine, run: _GuestRun) -> None:
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


def test_the_kernel_skips_no_event_of_one_storm_for_another(run: _GuestRun) -> None:
    storms = run.one("storms")
    assert storms["events"] > 10_000
    assert storms["missed"] <= storms["events"] / 1000


def test_every_source_is_attached_and_none_is_silent(machine: Machine, run: _GuestRun) -> None:
    """The kernel refuses only sources that it lacks: pte_free_defer came with v6.6."""
    probes = run.one("probes")
    attached = {name for names in probes["by"].values() for name in names}
    missing = set(probes["sources"]) - attached
    assert probes["silent"] == []
    assert missing <= machine.missing
    assert set(probes["by"]["raw_tracepoint"]) == _AT_RAW_TRACEPOINTS - missing
    others = {name for way in set(probes["by"]) - {machine.best, "raw_tracepoint"}
              for name in probes["by"][way]}  # fmt: skip
    assert others <= {"32-bit calls"}
    # process_madvise supports advice that gives memory back since v6.13.
    new = machine.series not in ("6.1", "6.12")
    needed = {name for name, source in probes["sources"].items() if source["needed"]}
    assert needed & set(probes["untried"]) == (set() if new else {"process_madvise"})
    assert attached - set(probes["seen"]) - set(probes["untried"]) <= _NOT_PROVOKED


def test_each_back_end_gives_the_same_snapshot(machine: Machine, run: _GuestRun) -> None:
    found = {backend["name"]: backend for backend in run.checks["back end"]}
    assert list(found) == [each for each in Backend if each != "fentry" or machine.has_fentry]
    for name, backend in found.items():
        assert backend["known"] == found[machine.best]["known"], name
        assert backend["known"]["window"]["lost"] == 0
        assert backend["known"]["audit"]["refs_diff"] == 0


def test_a_forced_back_end_has_all_sources_that_it_supports(
    machine: Machine, run: _GuestRun
) -> None:
    """Tracepoints and raw tracepoints have the others: faults, fork, exec and exit."""
    sources = run.one("probes")["sources"]
    lacks = NOT_YET | machine.missing | {"32-bit calls"}
    for backend in run.checks["back end"]:
        name, taken = backend["name"], backend["taken"]
        able = {source for source, each in sources.items() if name in each["methods"]}
        assert able - set(taken[name]) <= lacks, name
        assert set(taken) <= {name, "raw_tracepoint"}


def test_functions_show_how_faults_end_and_which_pages_are_pinned(run: _GuestRun) -> None:
    outcomes = run.one("outcomes")
    assert outcomes["pinned"] == PINNED
    assert outcomes["audit"]["runs"] == 1
    assert outcomes["audit"]["refs_diff"] == 0


def test_functions_show_the_number_of_pte_pages(machine: Machine, run: _GuestRun) -> None:
    """PTE pages made and freed since the first reading, and those of the shadow at the end.

    arm64 shows only those that were made.
    """
    for backend in run.checks["back end"]:
        if backend["name"] in (Backend.FENTRY, Backend.KPROBE):
            now, seen = backend["known"]["now"]["pte_pages"], backend["seen"]
            made = backend["before"] + seen["pte_alloc"]
            assert now < made if machine.is_arm64 else now == made - seen["pte_free"]
        else:
            assert not any(backend["seen"].values())


def test_a_trace_of_a_guest_replays_to_an_identical_snapshot(run: _GuestRun) -> None:
    replayed = json.dumps(document(_replayed(run).snapshots(slots=True)))
    assert replayed == (run.folder / "live.json").read_text()


def test_a_trace_of_6_1_predicts_the_pte_pages_of_6_18(runs: _Runs) -> None:
    """The same program, replayed under pt_reclaim, and run on 6.18."""
    old, new = runs["6.1"], runs["6.18"]
    (engine,) = _replayed(old).engines.values()
    predicted = in_area(engine.table.slots_of(Policy.PT_RECLAIM).tolist())
    assert len(predicted) == new.checks["step"][-1]["pte_pages"] == AREA // 2
    for was, does in zip(old.checks["step"], new.checks["step"], strict=True):
        assert was["predicted"]["pt_reclaim"] == does["pte_pages"], was["name"]
