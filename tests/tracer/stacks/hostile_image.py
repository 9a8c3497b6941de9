# SPDX-License-Identifier: GPL-2.0-only
"""Unwinds a sample whose code lies in a given file, in a process of its own."""

import mmap
import os
import sys
from pathlib import Path

import numpy as np

from tracer.stacks.callbacks import compile_callbacks
from tracer.stacks.modules import CodeMap, Module
from tracer.stacks.naming import Namer, demangler
from tracer.stacks.unwinder import RIP, RSP, Unwinder

__all__ = ("unwind_in",)


def unwind_in(path: str) -> None:
    """Unwind samples with PCs in this file."""
    size = -(-Path(path).stat().st_size // mmap.PAGESIZE) * mmap.PAGESIZE
    start = 0x5000_0000_0000
    span = f"{start:x}-{start + size:x}"
    code = CodeMap([Module(path, start, start + size, span, Path(path).stat().st_ino)])
    unwinder = Unwinder(os.getpid(), compile_callbacks())
    unwinder.report(code)
    namer = Namer(unwinder, demangler())
    registers = np.zeros(21, np.uint64)
    registers[RSP] = 0x7FFF_0000_0000
    for offset in range(0, size, 512):
        registers[RIP] = start + offset
        found = unwinder.unwind(registers, np.full(1024, start + offset, np.uint64), 8192)
        for pc in found.pcs[:3]:
            namer.frame(pc, code)
    unwinder.close()
    sys.stdout.write("done\n")
