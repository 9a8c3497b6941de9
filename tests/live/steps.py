# SPDX-License-Identifier: GPL-2.0-only
"""Follow a deterministic program with a forced back end."""

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from shadow.snapshot import document
from tests.live.attached import watching
from tracer.probes.sources import Backend

__all__ = ("FUNCTIONS_ONLY", "what_is_known")

FUNCTIONS_ONLY = ("pte_alloc", "pte_free", "split", "collapse", "reclaim")
"""Events without a tracepoint."""


@cache
def _program() -> str:
    program = str(Path(mkdtemp()) / "steps")
    subprocess.run(["gcc", "-O1", "-o", program, Path(__file__).with_suffix(".c")], check=True)
    # This brings the program and its libraries into the page cache, for fault-around.
    subprocess.run(["setarch", "-R", program], input=b"xx", capture_output=True, check=True)
    return program


@dataclass(frozen=True)
class Known:
    """PTE pages of the program before its start, and the document of the snapshot at its end.

    The document lacks the identity, the times, and `taken`, the sources by back end.
    """

    before: int
    taken: dict[str, list[str]]
    document: dict[str, Any]


def what_is_known(backend: Backend) -> Known:
    """Follow the program from start to end."""
    with subprocess.Popen(
        ["setarch", "-R", _program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        with watching(backend=backend) as attach:
            session = attach(child.pid)
            before = session.pte_pages
            child.stdin.write(b"x")
            child.stdin.flush()
            child.stdout.read(1)
            session.stop()
            snapshot = session.snapshot(slots=True)
        child.stdin.close()
    (known,) = document([snapshot])["processes"]
    taken = known["kernel"].pop("probes")
    del known["process"], known["notes"]
    del known["window"]["start_ns"], known["window"]["end_ns"]
    for policy in known["policies"].values():
        del policy["mean"], policy["saved_page_seconds"]
    for group in (*known["origins"]["emptied"], *known["origins"]["made"]):
        del group["first_ns"], group["last_ns"]
    return Known(before, taken, known)
