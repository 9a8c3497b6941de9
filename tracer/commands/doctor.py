# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope doctor`: check what ptescope needs on this host."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable

from shadow.errors import PtescopeError, UnsupportedHostError
from tracer.bpf.btf import member_offsets
from tracer.bpf.compiler import import_bcc, uapi_folders
from tracer.census import ExactReader
from tracer.commands.options import add_backend
from tracer.kernel import kernel_facts
from tracer.probes.selftest import verify_or_fall_back
from tracer.probes.sources import Backend
from tracer.probes.stream import Probes
from tracer.process.pagemap import read_runs
from tracer.process.target import Target
from tracer.stacks.libdw import libdw
from tracer.terminal import say

__all__ = ("DoctorCommand",)


def _bcc() -> str:
    """bcc, the headers with which it compiles, and libdw, which is optional."""
    bcc, headers = import_bcc(), uapi_folders()[0]
    try:
        libdw()
        stacks = "libdw is there, for --stacks"
    except UnsupportedHostError as error:
        stacks = str(error)
    return f"{bcc.__version__}, headers in {headers}\n{'':17} {stacks}"


def _btf() -> str:
    offsets = member_offsets(["task_struct.mm", "mm_struct.pgd"])
    return ", ".join(f"{name} at {offset}" for name, offset in offsets.items())


def _kernel() -> str:
    facts = kernel_facts()
    sizes = [f"{kib} KiB {where}" for where in ("always", "madvise") for kib in facts.mthp[where]]
    mthp = f", mTHP {', '.join(sizes)}" if sizes else ""
    return (
        f"{facts.release}, {facts.geometry.name}, policy {facts.policy.label} (tried), "
        f"THP {facts.thp}{mthp}"
    )


def _by_reason(refused: Iterable[str]) -> str:
    """Each reason once, with up to two of its places and the number of the others."""
    places: dict[str, list[str]] = {}
    for text in refused:
        place, _, reason = text.partition(": ")
        places.setdefault(reason, []).append(place)
    return "; ".join(
        f"{reason} ({', '.join(found[:2])}{f' and {len(found) - 2} more' if found[2:] else ''})"
        for reason, found in places.items()
    )


def _probes(backend: Backend | None) -> str:
    probes = Probes(geometry=kernel_facts().geometry, ring_bytes=1 << 18, backend=backend)
    try:
        outcome = verify_or_fall_back(probes)
        by_source = probes.attachments.by_source
    finally:
        probes.close()
    lines = [f"{len(outcome.seen)} sources of events, each verified with a test event"]
    for each in Backend:
        taken = [name for name, attachment in by_source.items() if attachment.backend is each]
        refused = [
            attachment.refused[each]
            for attachment in by_source.values()
            if each in attachment.refused
        ]
        said = [", ".join(taken)] if taken else []
        said += [f"unavailable: {_by_reason(refused)}"] if refused else []
        lines += [f"{each.value:14} {'; '.join(said)}"] if said else []
    if without := [name for name, attachment in by_source.items() if attachment.method is None]:
        lines.append(f"{'unavailable':14} {', '.join(without)}")
    lines += [f"{'not verified':14} {name}: {why}" for name, why in outcome.untried.items()]
    return "\n".join((lines[0], *(f"{'':17} {line}" for line in lines[1:])))


def _pagemap() -> str:
    me = Target(os.getpid(), 0)
    runs = read_runs(me.pid, me.vmas(), kernel_facts().geometry.user_bytes)
    return f"{runs.entries()} entries of the ptescope process itself"


def _page_reader() -> str:
    reader = ExactReader(kernel_facts().geometry)
    found = reader.census(Target(os.getpid(), 0))
    reader.close()
    return (
        f"{reader.why}; the tables of the ptescope process itself take {found.sum_kib} KiB, "
        f"its VmPTE is {found.vm_pte_kib} kB"
    )


def _checks(
    backend: Backend | None,
) -> tuple[tuple[str, Callable[[], str], str], ...]:
    """The checks: a name, the check, and the features that need it."""
    return (
        ("kernel", _kernel, "everything"),
        ("bcc", _bcc, "attach"),
        ("BTF", _btf, "attach"),
        ("probes", lambda: _probes(backend), "attach"),
        ("reader", _page_reader, "exact seeds, audits and censuses"),
        ("pagemap", _pagemap, "counted seeds and audits"),
    )


class DoctorCommand:
    """Check what ptescope needs on this host, and say what is missing."""

    example = "ptescope doctor"

    def prepare_parser(self, parser: ArgumentParser) -> None:
        """Declare the command's arguments."""
        add_backend(parser.add_argument_group("probes"))

    def run(self, args: Namespace) -> int:
        """Run all checks; returns the status of the first that fails, or 0."""
        status = 0
        for name, check, needed_for in _checks(args.backend):
            try:
                say(f"ok       {name:8} {check()}")
            except PtescopeError as error:
                say(f"missing  {name:8} {error} (needed for {needed_for})")
                status = status or error.status
            except OSError as error:
                say(f"missing  {name:8} {error.strerror} (needed for {needed_for})")
                status = status or 4
        return status
