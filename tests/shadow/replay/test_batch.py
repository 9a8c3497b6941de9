# SPDX-License-Identifier: GPL-2.0-only
"""Many traces: found by path, pattern or URL, with the same results on any worker."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import polars
import pytest
from distributed import LocalCluster

from shadow.errors import UsageError
from shadow.replay import Question, TraceResult, batch, find_traces, replay_all, replay_on_cluster
from shadow.report.summary_table import as_row, write_parquet
from shadow.snapshot import document
from tests.shadow.trace.traces import END_NS, write_trace

_QUESTION = Question(slots=True)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six complete traces, and one that is cut short."""
    folder = tmp_path_factory.mktemp("traces")
    for number in range(6):
        write_trace(folder / f"{number}.arrows", pids=(10 + number, 90 + number))
    write_trace(folder / "9.arrows", pids=(99,), end=False)
    return find_traces([str(folder)])


def _told(outcomes: list[TraceResult]) -> str:
    """The complete results, to the bit."""
    return json.dumps(
        [
            (each.url, each.problem, document([one.snapshot for one in each.followed]))
            for each in outcomes
        ]
    )


@pytest.fixture(scope="module")
def alone(traces: list[str]) -> str:
    return _told(list(replay_all(traces, _QUESTION)))


def test_traces_are_found_in_folders_by_patterns_and_urls(traces: list[str]) -> None:
    folder = Path(traces[0]).parent
    assert [Path(trace).name for trace in traces] == [f"{n}.arrows" for n in (0, 1, 2, 3, 4, 5, 9)]
    assert find_traces([f"{folder}/[0-2].arrows"]) == traces[:3]
    assert find_traces([traces[1], str(folder)]) == [traces[1], traces[0], *traces[2:]]
    urls = find_traces([f"file://{folder}/[0-2].arrows"])
    assert urls == [f"file://{trace}" for trace in traces[:3]]
    (outcome,) = replay_all(urls[:1], _QUESTION)
    assert outcome.problem is None
    assert len(outcome.followed) == 2


@pytest.mark.parametrize(
    ("place", "said"),
    [("/no/such/*.arrows", "no trace at"), ("nonesuch://host/x.arrows", "cannot be read")],
)
def test_a_folder_without_traces_is_an_error(place: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_traces([place])


def test_a_missing_trace_does_not_stop_the_others(traces: list[str]) -> None:
    missing = str(Path(traces[0]).parent / "7.arrows")
    first, second = replay_all([missing, traces[0]], _QUESTION)
    assert first.status == 2
    assert second.status == 0


def test_several_processors_give_the_same_result_as_one(traces: list[str], alone: str) -> None:
    assert _told(list(replay_all(traces, _QUESTION, jobs=2))) == alone


def test_a_table_has_a_row_for_each_process(traces: list[str], tmp_path: Path) -> None:
    rows = [
        as_row(each.snapshot, trace=outcome.url, host=each.host, wall_ns=each.wall_ns)
        for outcome in replay_all(traces, _QUESTION)
        for each in outcome.followed
    ]
    with (tmp_path / "t.parquet").open("wb") as file:
        write_parquet(rows, file)
    frame = polars.read_parquet(tmp_path / "t.parquet")
    assert frame.height == 13
    assert frame["host"].unique().to_list() == ["there"]
    assert frame["allocator"].unique().to_list() == ["jemalloc 5.3.0"]
    row = frame.row(0, named=True)
    assert row["pid"] == 10
    assert row["time"].timestamp() == pytest.approx(1_700_000_000 + (END_NS - 500) / 1e9, abs=1e-5)
    assert row["saved_by_pte_ref"] > 0


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A scheduler and two workers, each a process."""
    made: Any = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with made:
        yield made


def test_a_cluster_gives_the_same_result_even_if_a_worker_dies(
    cluster: Any, traces: list[str], alone: str
) -> None:
    victim = next(iter(cluster.workers.values())).pid
    outcomes = replay_on_cluster(traces * 20, _QUESTION, cluster.scheduler_address)
    found = [next(outcomes)]
    os.kill(victim, signal.SIGKILL)
    found += outcomes
    for begin in range(0, len(found), len(traces)):
        assert _told(found[begin : begin + len(traces)]) == alone


def test_a_worker_that_ends_is_only_reported(traces: list[str]) -> None:
    """Die like a worker that the kernel kills when memory is short."""
    (outcome,) = [batch._result(traces[0], _broken)]
    assert outcome.status == 1
    assert outcome.problem is not None
    assert "BrokenProcessPool" in outcome.problem


def _broken() -> TraceResult:
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(os._exit, 9).result()


def test_an_unreachable_cluster_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(UsageError, match="no Dask scheduler at"):
        list(replay_on_cluster([], _QUESTION, "tcp://127.0.0.1:9"))
