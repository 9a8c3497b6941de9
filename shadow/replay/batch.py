# SPDX-License-Identifier: GPL-2.0-only
"""Many traces, on this machine's processors or on a Dask cluster; the same results anywhere.

Each trace is replayed by itself, in one process, by the same code; only where
that happens differs. Results come in the order of the traces.
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
    """What is to be known of each trace.

    Attributes:
        at: seconds after its beginning; None: at its end.
        policy: whose PTE pages; None: those of the kernel that it ran on.
        slots: whether the empty slots are to be listed.
        max_memory: what the trace may make its shadows take, bytes.
    """

    at: float | None = None
    policy: Policy | None = None
    slots: bool = False
    max_memory: int = MAX_MEMORY


@dataclass(frozen=True)
class Followed:
    """One process of a trace.

    Attributes:
        host: where it ran.
        wall_ns: end of its window, since the epoch; 0: not known.
        snapshot: what was known then.
    """

    host: str
    wall_ns: int
    snapshot: Snapshot


@dataclass(frozen=True)
class TraceResult:
    """One trace, replayed.

    Attributes:
        url: the trace.
        followed: its processes.
        problem: why that is not everything; None: it is.
        status: exit status that goes with the problem.
    """

    url: str
    followed: list[Followed] = field(default_factory=list)
    problem: str | None = None
    status: int = 0


def result_of(url: str, replay: Replay, question: Question) -> TraceResult:
    """What a replay that has run says to a question."""
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
    """Replay one trace; a problem with it is part of the outcome."""
    try:
        with open_trace(url, question.max_memory) as reader:
            replay = Replay(reader, at=question.at, max_memory=question.max_memory)
            replay.run()
            return result_of(url, replay, question)
    except PtescopeError as error:
        return TraceResult(url, problem=str(error), status=error.status)


def _result(url: str, wait: Callable[[], TraceResult]) -> TraceResult:
    """What a worker says, or why it says nothing: it ended, or has no ptescope."""
    try:
        return wait()
    except Exception as error:
        return TraceResult(url, problem=f"{url} could not be replayed: {error!r}.", status=1)


def replay_all(urls: Sequence[str], question: Question, jobs: int = 1) -> Iterator[TraceResult]:
    """Replay traces on this machine.

    Args:
        urls: the traces.
        question: what to ask of each.
        jobs: processes to use.

    Yields:
        The outcome of each trace, in order.
    """
    if jobs == 1:
        yield from (replay_one(url, question) for url in urls)
        return
    # Not forked: this process may have threads by now, of Arrow for instance.
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
    """Processes started in this block leave Ctrl-C to this one, which ends them."""
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
    """Replay traces on a Dask cluster that is there already.

    What a lost worker was at is done again by another. The workers must be able
    to open the traces, and have ptescope installed.

    Args:
        urls: the traces.
        question: what to ask of each.
        address: the scheduler, such as tcp://host:8786.

    Yields:
        The outcome of each trace, in order.

    Raises:
        UsageError: distributed is not installed, or there is no scheduler there.
    """
    if not _SCHEDULER.fullmatch(address):
        raise UsageError(f"{address!a} is no address of a Dask scheduler, as tcp://host:8786 is.")
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask clusters need the package distributed: pip install 'ptescope[cluster]'."
        ) from error
    try:
        client: Any = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no Dask scheduler at {address}: {error}.") from error
    with client:
        # pure=False: a trace of the same name may have other contents by now.
        futures = client.map(replay_one, urls, question=question, pure=False)
        for url, future in zip(urls, futures, strict=True):
            yield _result(url, future.result)
