# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of user code at events, already unwound and named.

Each distinct frame and stack has a number within its process. A sample names a stack; it has
the thread and the time of its event, and so has the origin of a PTE page
(`shadow.table.origin`). `shadow.stack_store` joins the two.
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
        language: what runs there; None: machine code of a file.
    """

    function: str | None
    module: str | None
    offset: int
    language: Language | None = None

    def __str__(self) -> str:
        name = self.function or f"{self.module or '[unknown]'}+{self.offset:#x}"
        if self.language is None or (self.language is Language.JIT and self.function):
            return name
        return f"{name} [{self.language.value}]"


@dataclass(frozen=True)
class Stack:
    """A distinct stack.

    Attributes:
        frames: the numbers of its frames, innermost first.
        complete: whether it reaches the first function of its thread.
    """

    frames: tuple[int, ...]
    complete: bool


@dataclass(frozen=True)
class StackTotals:
    """What happened to the stacks of a process so far.

    Attributes:
        rate: the maximum number of stacks a second.
        seen: the events that could have had a stack.
        taken: the stacks that were sampled.
        lost: the stacks that found no room in their ring.
        unread: the sampled stacks whose memory could not be read.
        unwound: the stacks that the unwinder has handled.
        complete: the part of them that reaches the first function of its thread.
        repeats: the part of them that the unwinder recognised.
        cpu_ns: the CPU time of the unwinder for them.
        problem: why there are no more stacks; None: nothing has failed.
    """

    rate: int
    seen: int = 0
    taken: int = 0
    lost: int = 0
    unread: int = 0
    unwound: int = 0
    complete: int = 0
    repeats: int = 0
    cpu_ns: int = 0
    problem: str | None = None
