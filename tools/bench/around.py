# SPDX-License-Identifier: GPL-2.0-only
"""Recorders that benchmarks run during a load, and redis-benchmark as a load."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from tools.workloads.redis import Redis
from tracer.bpf.program import DETACHER

__all__ = ("PERF_EVENTS", "REQUESTS", "detached", "interrupted", "requests_per_second")

REQUESTS = 2_000_000
PERF_EVENTS = ",".join(
    [
        "exceptions:page_fault_user",
        "exceptions:page_fault_kernel",
        *(f"syscalls:sys_exit_{call}" for call in ("madvise", "munmap", "mmap", "mremap", "brk")),
        *(f"syscalls:sys_enter_{call}" for call in ("madvise", "munmap", "mmap", "mremap", "brk")),
    ]
)
"""The tracepoints that ptescope uses, as perf names them."""
_SETTLE_SECONDS = 2.0
_START_SECONDS = 60.0


def requests_per_second(redis: Redis, requests: int = REQUESTS) -> float:
    """Run pipelined SETs of 500-byte values, then delete everything; returns the rate."""
    done = subprocess.run(
        [
            *("redis-benchmark", "-s", str(redis.socket), "-t", "set", "-n", str(requests)),
            *("-r", "2000000", "-d", "500", "-P", "16", "--csv"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rate = float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))
    redis.flush()
    time.sleep(_SETTLE_SECONDS)  # jemalloc gives the memory back
    return rate


def detached() -> None:
    """Wait until the kernel has detached the probes of earlier runs, which slows faults down."""
    while any(process.info["name"] == DETACHER for process in psutil.process_iter(["name"])):
        time.sleep(0.1)


@contextmanager
def interrupted(
    command: list[str], ready: Callable[[], bool], settle: float = 0.5
) -> Iterator[None]:
    """Run a recorder during the block, which starts `settle` seconds after the recorder is ready.

    At the end, the probes of the recorder are detached.

    Raises:
        RuntimeError: the recorder failed.
    """
    recorder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and not ready():
        time.sleep(0.05)
    time.sleep(settle)
    yield
    recorder.send_signal(signal.SIGINT)
    _, said = recorder.communicate()
    if recorder.returncode not in (0, -signal.SIGINT):  # perf ends by the signal it was sent
        raise RuntimeError(f"{' '.join(command[:2])} failed: {said}")
    detached()
