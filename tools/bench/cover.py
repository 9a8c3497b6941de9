# SPDX-License-Identifier: GPL-2.0-only
"""The RFC's own example, live: python -m tools.bench.cover [GIB].

The example maps 50 GiB, and touches and discards 2 MiB, 25,600 times: once with one call for each
2 MiB and once with two. The output has the kernel's VmPTE and that of each policy of the shadow.
The RFC's cover letter has 102,640 kB before and 96 kB after.
"""

import select
import subprocess
import sys

from shadow.policy import Policy
from shadow.precompile import prepare
from shadow.table.counters import Counter
from tracer.census import open_reader
from tracer.follow.session import Session
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.process.target import open_target
from tracer.procfs import vm_pte_kib


def _run(gib: int, purge_kib: int) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "tools.workloads.cover", str(gib), str(purge_kib)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    kernel = kernel_facts()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    try:
        assert program.stdin
        assert program.stdout
        probes.add(program.pid)
        session = Session(open_target(program.pid), probes, kernel, reader)
        session.seed()
        program.stdin.write("\n")
        program.stdin.flush()
        while not select.select([program.stdout], [], [], 0.002)[0]:
            session.pump()
        session.stop()
        table = session.table
        above = (Counter.PMD_PAGES, Counter.PUD_PAGES, Counter.DEPOSITS)
        upper = sum(map(table.counter, above))
        predicted = {
            policy.label: table.geometry.page_kib * (upper + table.counter(Counter.TABLES + policy))
            for policy in Policy
        }
        lost = table.counter(Counter.LOST)
        print(f"{gib} GiB, discarded {purge_kib} KiB at a time; {lost} events lost")
        print(f"  VmPTE, this kernel ({kernel.policy.label})  {vm_pte_kib(program.pid):8,} kB")
        for label, kib in predicted.items():
            print(f"  {label:<32}  {kib:8,} kB")
    finally:
        program.kill()
        program.communicate()
        reader.close()
        probes.close()


def main() -> None:
    """Run both variants."""
    gib = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    prepare()
    for purge_kib in (2048, 1024):
        _run(gib, purge_kib)


if __name__ == "__main__":
    main()
