"""`ptescope doctor`: what this host offers, and what is missing."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from shadow.errors import PtescopeError
from tracer.backend import import_bcc
from tracer.btf import member_offsets
from tracer.census import ExactReader
from tracer.kernel import kernel_facts
from tracer.pagemap import read_runs
from tracer.probes import TRACEPOINTS, Probes
from tracer.target import Target

__all__ = ("Doctor",)


def _bcc() -> str:
    return f"{import_bcc().__version__}"


def _btf() -> str:
    offsets = member_offsets(["task_struct.mm", "mm_struct.pgd"])
    return ", ".join(f"{name} at {offset}" for name, offset in offsets.items())


def _kernel() -> str:
    facts = kernel_facts()
    sizes = [f"{kib} KiB {where}" for where in ("always", "madvise") for kib in facts.mthp[where]]
    mthp = f", mTHP {', '.join(sizes)}" if sizes else ""
    return (
        f"{facts.release}, {facts.levels} levels, policy {facts.policy.label} (tried), "
        f"THP {facts.thp}{mthp}"
    )


def _probes() -> str:
    probes = Probes(levels=kernel_facts().levels, ring_bytes=1 << 16)
    probes.add(os.getpid())
    kernel_facts()  # provokes faults, mmap, madvise and munmap in this process
    seen = len(probes.read(os.getpid()))
    probes.close()
    return f"raw tracepoints {', '.join(TRACEPOINTS)}; {seen} events of a self-test"


def _pagemap() -> str:
    me = Target(os.getpid(), 0)
    runs = read_runs(me.pid, me.vmas(), 1 << 47)
    return f"{runs.entries()} entries of this very process"


def _page_reader() -> str:
    reader = ExactReader(kernel_facts().levels)
    found = reader.census(Target(os.getpid(), 0))
    reader.close()
    return f"{reader.why}; {found.sum_kib} KiB of this very process, VmPTE {found.vm_pte_kib} kB"


_CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("kernel", _kernel, "everything"),
    ("bcc", _bcc, "attach"),
    ("BTF", _btf, "attach"),
    ("probes", _probes, "attach"),
    ("reader", _page_reader, "exact seeds, audits and censuses"),
    ("pagemap", _pagemap, "counted seeds and audits"),
)


class Doctor:
    """Print what this host offers and what is missing."""

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """It has no arguments."""

    def run(self, _args: Namespace) -> int:
        """Try everything; returns the status of the first thing that is missing, or 0."""
        status = 0
        for name, check, needed_for in _CHECKS:
            try:
                print(f"ok       {name:8} {check()}")
            except PtescopeError as error:
                print(f"missing  {name:8} {error} (needed for {needed_for})")
                status = status or error.status
            except OSError as error:
                print(f"missing  {name:8} {error.strerror} (needed for {needed_for})")
                status = status or 4
        return status
