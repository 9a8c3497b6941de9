# SPDX-License-Identifier: GPL-2.0-only
"""A program with known stacks, and the stacks that a session reports of it."""

import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from shadow.snapshot import Snapshot
from shadow.stacks import Frame, StackReport

__all__ = ("KnownProgram", "build", "emptied_in", "functions", "known_program", "made_in", "report")

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O2", "-fomit-frame-pointer", "-pthread", "-Wall", "-Werror")


@cache
def build(*flags: str) -> Path:
    """The compiled program; `flags` come last."""
    program = Path(mkdtemp(prefix="ptescope-stacks-")) / "known-stacks"
    subprocess.run(["gcc", *_FLAGS, "-o", program, _SOURCE, *flags], check=True)
    return program


class KnownProgram:
    """The running program."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid
        self._line()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().rstrip()

    def step(self, name: str, *arguments: object) -> None:
        """Run one step."""
        assert self._process.stdin
        self._process.stdin.write(" ".join(map(str, (name, *arguments))) + "\n")
        self._process.stdin.flush()
        assert self._line() == name

    def end(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def known_program(program: Path | None = None) -> Iterator[KnownProgram]:
    """Run the program, or another that takes the same steps."""
    process = subprocess.Popen(
        [program or build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    known = None
    try:
        known = KnownProgram(process)
        yield known
    finally:
        process.kill()
        process.communicate()


def report(snapshot: Snapshot) -> StackReport:
    """The stacks of a snapshot that has some."""
    assert snapshot.stacks is not None
    return snapshot.stacks


def functions(frames: Sequence[Frame]) -> tuple[str, ...]:
    """The functions in the program itself, innermost first."""
    return tuple(
        frame.function or "?" for frame in frames if (frame.module or "").startswith("known-stacks")
    )


def _stack(found: StackReport, number: int | None) -> tuple[str, ...]:
    if number is None:
        return ("not sampled",)
    return functions([found.frames[each] for each in found.stacks[number].frames])


def emptied_in(found: StackReport) -> Counter[tuple[str | None, tuple[str, ...]]]:
    """PTE pages by the thread and the functions that emptied them."""
    pages: Counter[tuple[str | None, tuple[str, ...]]] = Counter()
    for group in found.pages:
        pages[group.emptied_by, _stack(found, group.emptied_stack)] += group.pte_pages
    return pages


def made_in(found: StackReport) -> Counter[tuple[str | None, tuple[str, ...]]]:
    """PTE pages by the thread and the functions that made them."""
    pages: Counter[tuple[str | None, tuple[str, ...]]] = Counter()
    for group in found.pages:
        pages[group.made_by, _stack(found, group.made_stack)] += group.pte_pages
    return pages
