# SPDX-License-Identifier: GPL-2.0-only
"""The accuracy suite: tools/accuracy [SECONDS] [NAME].

The suite follows each program under load, audits it every second, and once more when it is idle.
Missing, extra and wrong are sums over all audits: the differences that events alone left since the
previous audit. `anonymous` are those of the missing and extra empty PTE pages that no file mapping,
huge page, populate call or loss explains. After the last repair, the suite audits once more:
`after` is what this audit corrected.
"""

import sys
import time

from shadow.precompile import prepare
from shadow.snapshot import Snapshot
from tools.accuracy_suite.programs import CASES, SuiteCase
from tracer.census import Reader, open_reader
from tracer.follow.loop import Pace, Task, follow
from tracer.follow.process_tree import ProcessTree
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target

_EVERY = 1.0
_REST = 0.2
_PACE = Pace(busy=0, idle=0.002)
"""The programs are as busy as they can be."""
_COLUMNS = (
    "program",
    "allocator",
    "events",
    "lost",
    "PTE pages",
    "empty",
    "missing",
    "extra",
    "anonymous",
    "entries wrong",
    "by cause",
    "audits",
    "after",
)


def _row(case: SuiteCase, report: Snapshot, corrected: str) -> str:
    audit, allocator = report.audit, report.process.allocator
    causes = ", ".join(f"{cause} {wrong:,}" for cause, wrong in audit.causes.items())
    cells = (
        case.name,
        f"{allocator.name} {allocator.version or ''}".strip() if allocator else "-",
        f"{sum(report.window.events.values()):,}",
        f"{report.window.lost:,}",
        f"{report.now.pte_pages:,}",
        f"{report.now.empty:,}",
        f"{audit.empty_missing:,}",
        f"{audit.empty_extra:,}",
        f"{audit.empty_causes.get('unknown', 0):,}",
        f"{audit.refs_diff:,}",
        causes or "-",
        f"{audit.runs:,}",
        corrected,
    )
    return f"| {' | '.join(cells)} |"


def _last_word(session: Session) -> tuple[Snapshot, str]:
    """The report, and the number of PTE pages that one more audit corrects."""
    report = session.snapshot()
    if session.ended:
        return report, "ended"
    session.audit()
    return report, str(session.audits.repaired - report.audit.repaired)


def _follow(case: SuiteCase, seconds: float, probes: Probes, reader: Reader) -> list[str]:
    """Run one case; returns a row for each process."""
    with case.start(seconds) as running:
        time.sleep(0.5)  # until it is loaded and linked
        tree = ProcessTree(probes, kernel_facts(), reader, forks=case.forks)
        tree.add(open_target(running.pid))
        follow(tree.pump, running.done, tasks=[Task(_EVERY, tree.audit)], pace=_PACE)
        time.sleep(_REST)
        tree.stop()
        return [_row(case, *_last_word(session)) for session in tree.sessions]


def main() -> None:
    """Run the suite, and print each row as it is measured."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    prepare()
    kernel = kernel_facts()
    reader = open_reader(kernel.geometry)
    print(f"{kernel.release}, {seconds:.0f} s each, {reader.why}\n")
    print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}", flush=True)
    for case in CASES:
        if wanted not in case.name:
            continue
        probes = Probes(geometry=kernel.geometry)
        try:
            print("\n".join(_follow(case, seconds, probes, reader)), flush=True)
        finally:
            probes.close()
    reader.close()


if __name__ == "__main__":
    main()
