# SPDX-License-Identifier: GPL-2.0-only
"""The shadow against a kernel that frees a PTE page whenever a DONTNEED leaves it empty.

./tools/test --zero-kernel runs these tests; the first time it builds the kernels (10 minutes of a
core). `plain` is the same kernel without the change.
"""

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shadow.policy import Policy
from shadow.replay import Replay, open_trace
from tests.vm.guest import AREA, in_area
from tools.vm_guests.guest import Guest
from tools.vm_guests.own_kernels import build_kernel
from tools.zero_kernel.run import Outcome, outcomes_of
from tools.zero_kernel.workloads import WORKLOADS

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 7200.0
_HISTORIES = int(os.environ.get("PTESCOPE_ZERO_HISTORIES", "500"))
_POLICIES = {"plain": Policy.PT_RECLAIM, "zero": Policy.DONTNEED_ZERO}
_REFUSED = 20_000
"""Of so many events the ring may refuse one: its lock errs in guests (bpf/probes/stream.c)."""
_Checks = dict[str, list[dict[str, Any]]]
_EACH = pytest.mark.parametrize("variant", _POLICIES)


def _checks(variant: str, folder: Path) -> _Checks:
    guest = Guest(build_kernel(variant), share=folder)
    command = [sys.executable, "-m", "tests.vm.zero_guest", str(folder), str(_HISTORIES)]
    done = guest.run(command, _ROOT, timeout=_TIMEOUT)
    assert done.status == 0, done.err
    checks: _Checks = {}
    for line in done.out.splitlines():
        said = json.loads(line)
        checks.setdefault(said.pop("check"), []).append(said)
    return checks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zero")


def _on_both(folder: Path, run: Any) -> Iterator[dict[str, Future[Any]]]:
    for variant in _POLICIES:
        build_kernel(variant)
        (folder / variant).mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        yield {variant: pool.submit(run, variant, folder / variant) for variant in _POLICIES}


@pytest.fixture(scope="module")
def checked(folder: Path) -> Iterator[dict[str, Future[_Checks]]]:
    """What `tests.vm.zero_guest` said on each kernel."""
    yield from _on_both(folder, _checks)


@pytest.fixture(scope="module")
def worked(
    folder: Path, checked: dict[str, Future[_Checks]]
) -> Iterator[dict[str, Future[Outcome]]]:
    """What the workloads did on each kernel, after the checks."""
    for done in checked.values():
        done.exception()
    yield from _on_both(folder, outcomes_of)


@_EACH
def test_the_policy_is_found_by_trying(variant: str, checked: dict[str, Future[_Checks]]) -> None:
    (kernel,) = checked[variant].result()["kernel"]
    assert kernel["release"].endswith(f"-{variant}")
    assert kernel["policy"] == _POLICIES[variant].label


@_EACH
def test_each_step_gives_the_pte_pages_of_the_policy(
    variant: str, checked: dict[str, Future[_Checks]]
) -> None:
    for step in checked[variant].result()["step"]:
        assert step["oracle_equal"], step
        assert step["shadow_equal"], step
        assert step["lost"] == 0, step
        assert step["pte_pages"] == step["predicted"][_POLICIES[variant].label], step


@_EACH
def test_each_experiment_gives_what_the_shadow_says(
    variant: str, checked: dict[str, Future[_Checks]]
) -> None:
    (rows,) = checked[variant].result()["rows"]
    assert rows["wrong"] == []
    assert len(rows["impossible"]) < rows["tried"] / 5


@_EACH
def test_random_histories_agree_without_an_audit(
    variant: str, checked: dict[str, Future[_Checks]]
) -> None:
    found = checked[variant].result()
    (histories,) = found["histories"]
    assert histories["differ"] == 0, found.get("difference")
    assert histories["count"] == _HISTORIES
    assert histories["pages"] > 10 * _HISTORIES


@pytest.mark.parametrize("workload", [workload.name for workload in WORKLOADS])
@_EACH
def test_real_programs_agree(
    variant: str, workload: str, worked: dict[str, Future[Outcome]]
) -> None:
    """Every PTE page, before the last audit and in each one; in anonymous memory, what is empty."""
    said = worked[variant].result()[workload]
    assert said["lost"] <= sum(said["events"].values()) / _REFUSED
    shadow, audit = said["policies"][_POLICIES[variant].label], said["audit"]
    assert {name: shadow[name] for name in said["real"]} == said["real"]
    if not said["lost"]:  # after a loss, the shadow is wrong until it reads the tables again
        assert said["wrong_slots"] == []
        assert audit["pte_pages_diff"] == 0
        assert [cause for cause in audit["empty_causes"] if "file" not in cause] == []


def test_the_zero_kernel_frees_after_calls_of_any_size(
    checked: dict[str, Future[_Checks]],
) -> None:
    steps = {name: checked[name].result()["step"] for name in _POLICIES}
    found = {
        variant: {step["name"]: step["pte_pages"] for step in steps[variant]} for variant in steps
    }
    assert found["plain"]["DONTNEED by halves"] == AREA
    assert found["zero"]["DONTNEED by halves"] == 0
    assert found["zero"]["FREE by halves"] == AREA


def test_each_kernel_predicts_the_other(checked: dict[str, Future[_Checks]], folder: Path) -> None:
    """The deterministic program: a trace of either, under the policy of the other, is the other."""
    steps = {name: checked[name].result()["step"] for name in _POLICIES}
    for one, other in (("plain", "zero"), ("zero", "plain")):
        policy = _POLICIES[other]
        for was, does in zip(steps[one], steps[other], strict=True):
            assert was["predicted"][policy.label] == does["pte_pages"], was["name"]
        replay = Replay(open_trace(str(folder / one / "trace.arrows")))
        replay.run()
        (engine,) = replay.engines.values()
        slots = in_area(engine.table.slots_of(policy).tolist())
        assert len(slots) == steps[other][-1]["pte_pages"]
