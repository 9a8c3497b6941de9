# SPDX-License-Identifier: GPL-2.0-only
"""Follow each workload in a guest: python -m tools.zero_kernel.guest FOLDER [NAME].

Prints a line of JSON for each, and writes its trace to FOLDER. `real` are readings of the page
tables, `policies` the numbers of the shadow, `audit` how far the two ever differed, `wrong_slots`
the PTE pages that only one of them had at the end, before the last audit.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from shadow.precompile import prepare
from shadow.snapshot import Snapshot
from shadow.trace import TraceWriter
from tools.zero_kernel.programs import await_idle
from tools.zero_kernel.workloads import WORKLOADS, Workload, in_thread
from tracer.census import Reader, open_reader
from tracer.follow.session import Session
from tracer.kernel import KernelFacts, kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

__all__ = ("trace_name",)

_AUDIT_SECONDS = 5.0
_RING = 64 << 20
"""Room for all events of a program: ptescope shares its only processor, and may come late."""
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def trace_name(workload: str) -> str:
    """The file of the trace of a workload."""
    return "".join(c if c.isalnum() else "-" for c in workload) + ".arrows"


def _quiet(session: Session) -> None:
    """Take events until none has come for a moment."""
    while session.pump():
        pass
    time.sleep(0.2)
    if session.pump():
        _quiet(session)


def _both(session: Session) -> tuple[dict[int, int], dict[int, int]]:
    """Entries of each PTE page: as read, and in the shadow."""
    real = session.reader.pages(session.target, session.target.vmas())
    return real.entries_by_slot(), session.table.pages().entries_by_slot()


def _fields(report: Snapshot, session: Session) -> dict[str, object]:
    real, _ = _both(session)
    return {
        "policies": {label: asdict(outcome) for label, outcome in report.policies.items()},
        "real": {"pte_pages": len(real), "empty": sum(not n for n in real.values())},
        "vm_pte_kib": report.now.vm_pte_kib,
        "predicted_kib": report.now.vm_pte_predicted_kib,
        "audit": asdict(report.audit),
        "events": report.window.events,
        "lost": report.window.lost,
        "seconds": (report.window.end_ns - report.window.start_ns) / 1e9,
    }


def _follow(
    workload: Workload, folder: Path, probes: Probes, kernel: KernelFacts, reader: Reader
) -> dict[str, object]:
    with workload.start(folder) as (pid, load):
        await_idle(pid)
        writer = TraceWriter(folder / trace_name(workload.name), force=True)
        probes.add(pid)
        session = Session(open_target(pid), probes, kernel, reader, writer.tee())
        session.seed()
        writer.start()
        over, last = in_thread(load), time.monotonic()
        while not over():
            if not session.pump():
                time.sleep(0.005)
            if time.monotonic() - last > _AUDIT_SECONDS:
                session.audit()
                last = time.monotonic()
        _quiet(session)
        real, shadow = _both(session)
        session.audit()
        found = _fields(session.snapshot(), session)
        found["wrong_slots"] = sorted(map(hex, real.keys() ^ shadow.keys()))
        session.stop()
        writer.close()
        return found


def main() -> None:
    """Run all workloads, or those whose name contains NAME."""
    folder, wanted = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if _THP.exists():
        _THP.write_text("madvise")
    prepare()
    kernel = kernel_facts()
    print(json.dumps({"name": "kernel", "policy": kernel.policy.label, "release": kernel.release}))
    reader = open_reader(kernel.geometry)
    for workload in WORKLOADS:
        if wanted not in workload.name:
            continue
        probes = Probes(geometry=kernel.geometry, ring_bytes=_RING)
        try:
            found = _follow(workload, folder, probes, kernel, reader)
        finally:
            probes.close()
        print(json.dumps({"name": workload.name, **found}), flush=True)
    reader.close()


if __name__ == "__main__":
    main()
