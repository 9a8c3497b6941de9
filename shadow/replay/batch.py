# SPDX-License-Identifier: GPL-2.0-only
"""Replay of many traces, on the local processors or on a Dask cluster, with equal results.

Either way, the same code replays each trace separately, in one process. Results come in
the order of the traces.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context
from signal import SIG_IGN, SIGINT, signal
from threading import current_thread, main_thread
from typing import Any

from shadow.errors import PtescopeError, UsageError
from shadow.memory_limit import MAX_MEMORY
from shadow.policy import Policy
from shadow.replay.replay import Replay
from shadow.replay.source import open_trace
from shadow.snapshot import Snapshot

__all__ = (
    "Followed",
    "TraceResult",
    "Question",
    "result_of",
    "replay_all",
    "replay_on_cluster",
    "replay_one",
)

_CONNECT_SECONDS = 10
_SCHEDULER = re.compile(r"([a-z]+://)?[^\s/]+:\d{1,5}")


@dataclass(frozen=True)
class Question:
    """The question to answer for each trace.

    Attributes:
        at: moment in seconds after the beginning of the trace; None: its end.
        policy: the policy to show; None: that of the recorded kernel.
        slots: whether to list the empty slots.
        max_memory: limit on the memory of the shadows, bytes.
    """

    at: float | None = None
    policy: Policy | None = None
    slots: bool = False
    max_memory: int = MAX_MEMORY


@dataclass(frozen=True)
class Followed:
    """One process of a trace.

    Attributes:
        host: the host on which the process ran.
        wall_ns: end of the window, ns since the epoch; 0: unknown.
        snapshot: the state at that time.
    """

    host: str
    wall_ns: int
    snapshot: Snapshot


@dataclass(frozen=True)
class TraceResult:
    """The result of one trace.

    Attributes:
        url: the trace.
        followed: the processes in it.
        problem: why the result is incomplete; None: it is complete.
        status: the exit status of the problem.
    """

    url: str
    followed: list[Followed] = field(default_factory=list)
    problem: str | None = None
    status: int = 0


def result_of(url: str, replay: Replay, question: Question) -> TraceResult:
    """The answer of a finished replay to a question."""
    snapshots = replay.snapshots(slots=question.slots, policy=question.policy)
    followed = []
    for engine, snapshot in zip(replay.engines.values(), snapshots, strict=True):
        facts, window = engine.facts, snapshot.window
        passed = window.end_ns - facts.start_ns
        wall_ns = facts.wall_ns + passed if facts.wall_ns else 0
        followed.append(Followed(facts.host, wall_ns, snapshot))
    if replay.damage is None:
        return TraceResult(url, followed)
    return TraceResult(url, followed, str(replay.damage), replay.damage.status)


def replay_one(url: str, question: Question) -> TraceResult:
    """Replay one trace; the result includes any problem."""
    try:
        with open_trace(url, question.max_memory) as reader:
            replay = Replay(reader, at=question.at, max_memory=question.max_memory)
            replay.run()
            return result_of(url, replay, question)
    except PtescopeError as error:
        return TraceResult(url, problem=str(error), status=error.status)


def _result(url: str, wait: Callable[[], TraceResult]) -> TraceResult:
    """The result from a worker, or why there is none: the worker died, or lacks ptescope."""
    try:
        return wait()
    except Exception as error:
        return TraceResult(url, problem=f"{url} cannot be replayed: {error!r}.", status=1)


def replay_all(urls: Sequence[str], question: Question, jobs: int = 1) -> Iterator[TraceResult]:
    """Replay traces on this machine.

    Args:
        urls: the traces.
        question: the question for each trace.
        jobs: number of processes to use.

    Yields:
        The result of each trace, in order.
    """
    if jobs == 1:
        yield from (replay_one(url, question) for url in urls)
        return
    # No fork: this process may already have threads, for instance those of Arrow.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        with _sigint_ignored():
            futures = [pool.submit(replay_one, url, question) for url in urls]
        try:
            for url, future in zip(urls, futures, strict=True):
                yield _result(url, future.result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.terminate()
            raise


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Let processes started in this block ignore Ctrl-C; this process ends them."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal(SIGINT, SIG_IGN)
    try:
        yield
    finally:
        signal(SIGINT, before)


def replay_on_cluster(
    urls: Sequence[str], question: Question, address: str
) -> Iterator[TraceResult]:
    """Replay traces on an existing Dask cluster.

    Dask retries the work of a lost worker on another one. The workers need ptescope and
    access to the traces.

    Args:
        urls: the traces.
        question: the question for each trace.
        address: the scheduler, such as tcp://host:8786.

    Yields:
        The result of each trace, in order.

    Raises:
        UsageError: distributed is not installed, or no scheduler answers at the address.
    """
    if not _SCHEDULER.fullmatch(address):
        raise UsageError(
            f"{address!a} is not the address of a Dask scheduler; give one such as tcp://host:8786."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask clusters need the package distributed; run pip install 'ptescope[cluster]'."
        ) from error
    try:
        client: Any = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no Dask scheduler at {address}: {error}.") from error
    with client:
        # pure=False: a trace of the same name may have different contents now.
        futures = client.map(replay_one, urls, question=question, pure=False)
        for url, future in zip(urls, futures, strict=True):
            yield _result(url, future.result)
