# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of user code at events, already unwound and named.

Each distinct frame and stack has a number within its process. A sample names a stack; it has
the thread and the time of its event, and so has the origin of a PTE page
(`shadow.table.origin`). `shadow.stack_store` joins the two, so the table needs no field for it.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

__all__ = (
    "LONGEST_NAME",
    "MOST_DEPTH",
    "MOST_FRAMES",
    "MOST_STACKS",
    "NO_STACK",
    "STACK_SAMPLE",
    "Frame",
    "Language",
    "Stack",
    "StackGroup",
    "StackReport",
    "StackTotals",
)

MOST_FRAMES, MOST_STACKS = 1 << 16, 1 << 14
"""The maximum numbers of distinct frames and stacks of a process."""
MOST_DEPTH = 256
"""The maximum number of frames in a stack."""
LONGEST_NAME = 512
"""The maximum length of a name in characters."""
NO_STACK = (1 << 32) - 1
"""The number of the stack of a sample that has none: there were too many distinct ones."""

STACK_SAMPLE = np.dtype([("time", "<u8"), ("tid", "<u4"), ("stack", "<u4")])
"""The stack at one event: its time and thread, and the number of its stack."""


class Language(StrEnum):
    """What runs in a frame, where it is not machine code of a file."""

    PYTHON = "python"
    """CPython's interpreter runs a Python function."""
    JAVA = "java"
    """Code that a Java virtual machine generated."""
    JIT = "jit"
    """Other code that was generated at run time."""


@dataclass(frozen=True)
class Frame:
    """A place in a program.

    Attributes:
        function: its name; None: nothing names it.
        module: the file name of the program or library; None: not in a file.
        offset: the address within the module, as in its symbol table, or else the address.
        language: what runs there, a `Language`; None: machine code of a file.
    """

    function: str | None
    module: str | None
    offset: int
    language: str | None = None

    def __str__(self) -> str:
        name = self.function or f"{self.module or '[unknown]'}+{self.offset:#x}"
        if self.language is None or (self.language == Language.JIT and self.function):
            return name
        return f"{name} [{self.language}]"


@dataclass(frozen=True)
class Stack:
    """A distinct stack.

    Attributes:
        frames: the numbers of its frames, innermost first.
        complete: whether it reaches the first function of its thread.
    """

    frames: list[int]
    complete: bool


@dataclass(frozen=True)
class StackTotals:
    """What happened to the stacks of a process so far.

    Attributes:
        rate: the maximum number of stacks a second.
        seen: the events that could have had a stack.
        taken: the stacks that were sampled.
        sure: the part of `seen` that made or emptied a PTE page, as the page tables showed.
        sure_taken: the part of `taken`, likewise.
        lost: the stacks that found no room in their ring.
        unread: the sampled stacks whose memory could not be read.
        unwound: the stacks that the unwinder has handled.
        complete: the part of them that reaches the first function of its thread.
        repeats: the part of them that the unwinder recognised.
        unwind_ns: the CPU time to unwind them.
        names_ns: the CPU time to name their frames, each once, and to read symbols for that.
        problem: why there are no more stacks, or none of faults; None: nothing has failed.
    """

    rate: int
    seen: int = 0
    taken: int = 0
    sure: int = 0
    sure_taken: int = 0
    lost: int = 0
    unread: int = 0
    unwound: int = 0
    complete: int = 0
    repeats: int = 0
    unwind_ns: int = 0
    names_ns: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class StackGroup:
    """Empty PTE pages that the same code made and the same code emptied.

    Attributes:
        emptied_call: what emptied them.
        emptied_by: the name of the thread; None: unknown, or no thread.
        emptied_stack: the index of the stack at that event; None: not sampled.
        made_call: what made them.
        made_by: the name of the thread; None: unknown, or no thread.
        made_stack: the index of the stack at that event; None: not sampled.
        pte_pages: the number of PTE pages.
        page_seconds: how long they have been empty at the end of the window, summed up; PTE pages
            that were empty before the window do not count.
    """

    emptied_call: str
    emptied_by: str | None
    emptied_stack: int | None
    made_call: str
    made_by: str | None
    made_stack: int | None
    pte_pages: int
    page_seconds: float


@dataclass(frozen=True)
class StackReport:
    """Stacks of user code, for the PTE pages that are empty now.

    Attributes:
        totals: what happened to the stacks of the window.
        frames: the frames of these stacks.
        stacks: the stacks, each once.
        pages: the empty PTE pages with known addresses, the largest groups first.
    """

    totals: StackTotals
    frames: list[Frame]
    stacks: list[Stack]
    pages: list[StackGroup]
