"""Evidence for advice, collected from a session and the host."""

from dataclasses import replace
from pathlib import Path

from shadow.advice import Evidence, Host, classify_slots
from shadow.errors import NoSuchTargetError
from shadow.whatif import Future
from tracer.kernel import KernelFacts
from tracer.session import Session

__all__ = ("collect",)

_MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")


def collect(session: Session, kernel: KernelFacts, future: Future | None) -> Evidence:
    """What is known of a process at the end of a window.

    Args:
        session: stopped; its process may go on or have ended.
        kernel: the running kernel.
        future: what was kept of the window's events.

    Raises:
        NoSuchTargetError: the process has ended, and its page tables with it.
    """
    snapshot = session.snapshot(slots=True)
    target = session.target
    ended = f"Process {target.pid} has ended, and its page tables with it."
    try:
        vmas, resident = target.vmas(), target.resident_and_swapped()
    except OSError as error:
        raise NoSuchTargetError(ended) from error
    if not target.alive():  # a zombie reads as a process without memory
        raise NoSuchTargetError(ended)
    host = Host(
        max_map_count=int(_MAX_MAP_COUNT.read_text()),
        thp=kernel.thp,
        resident=resident,
        vmas=len(vmas),
    )
    placed = session.unplaced == 0 and snapshot.empty_slots is not None
    slots = classify_slots(snapshot.empty_slots or [], vmas, kernel.thp) if placed else None
    return Evidence(replace(snapshot, empty_slots=None), host, slots, future)
