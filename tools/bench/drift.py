# SPDX-License-Identifier: GPL-2.0-only
"""How soon a change without events is known: python -m tools.bench.drift [ROUNDS].

Another process populates 64 slots of a shared file that the followed process maps, and takes
them away again. Each change counts from the moment that it is done until the PTE pages of the
shadow show it, with a session (as attach, record and advise have it) and with the daemon's
host, for a process that sleeps and for one that faults and purges elsewhere. The bar is 2 s.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from shadow.precompile import prepare
from tools.workloads.victim import SLOTS, Victim, victim
from tracer.census import Reader, open_reader
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.follow.session import Session
from tracer.kernel import KernelFacts, kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

_BAR = 2.0
_GIVE_UP = 60.0
_SETTLE_SECONDS = 2.0


def _until(step: Callable[[], object], known: Callable[[], bool]) -> float:
    """Seconds until it is known; `_GIVE_UP` where it is not."""
    begin = time.monotonic()
    while not known() and time.monotonic() - begin < _GIVE_UP:
        step()
        time.sleep(0.01)
    return time.monotonic() - begin


def _changes(process: Victim, session: Session, step: Callable[[], object]) -> list[float]:
    """Seconds until 64 PTE pages are known to be there, and until they are known to be empty."""
    _until(step, _after(_SETTLE_SECONDS))
    before = session.pte_pages, session.empty
    process.populate(range(SLOTS))
    came = _until(step, lambda: session.pte_pages >= before[0] + SLOTS - 1)
    _until(step, _after(_SETTLE_SECONDS))
    process.empty()
    return [came, _until(step, lambda: session.empty >= before[1] + SLOTS - 1)]


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _by_session(
    process: Victim, kernel: KernelFacts, probes: Probes, reader: Reader
) -> list[float]:
    probes.add(process.pid)
    session = Session(open_target(process.pid), probes, kernel, reader)
    session.seed()
    took = _changes(process, session, session.pump)
    session.end()
    probes.remove(process.pid)
    return took


def _by_daemon(process: Victim, kernel: KernelFacts, probes: Probes, reader: Reader) -> list[float]:
    selection = Selection(min_vmpte_kib=16, names=("drift-victim",))
    host = Host(probes, kernel, reader, selection=selection, limits=Limits(8 << 30, 2.0))
    _until(host.step, lambda: process.pid in host.sessions)
    took = _changes(process, host.sessions[process.pid], host.step)
    host.close()
    return took


def main() -> None:
    """Measure, and print a line for each way and each load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    rounds = parser.parse_args().rounds
    kernel = kernel_facts()
    prepare()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    for busy in (False, True):
        for name, way in (("session", _by_session), ("daemon", _by_daemon)):
            took: list[float] = []
            for _ in range(rounds):
                with victim(busy=busy) as process:
                    took += way(process, kernel, probes, reader)
            print(
                f"{name:8} {'busy' if busy else 'idle':5} {len(took)} changes: "
                f"known after {statistics.median(took):.2f} s (median), "
                f"{max(took):.2f} s (longest); bar {_BAR:g} s",
                flush=True,
            )
    reader.close()
    probes.close()


if __name__ == "__main__":
    main()
