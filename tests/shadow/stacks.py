# SPDX-License-Identifier: GPL-2.0-only
"""Records of stacks for tests."""

from collections.abc import Sequence

import numpy as np

from shadow.records import Stacks
from shadow.stacks import STACK_SAMPLE, Frame, Language, Stack, StackTotals

__all__ = ("FRAMES", "HOSTILE", "STACKS", "TOTALS", "stacks")

HOSTILE = "evil;name\n\x1b[2J\u202e\udcff 7"
FRAMES = [
    Frame("madvise", "libc.so.6", 0x1234),
    Frame(None, "libjemalloc.so.2", 0x94EE7),
    Frame(None, "libjemalloc.so.2", 0x87D3F),
    Frame("purge", "server", 0x700),
    Frame("main", "server", 0x100),
    Frame("_PyEval_EvalFrameDefault", "python3.11", 0x42, Language.PYTHON),
    Frame(HOSTILE, HOSTILE, 0),
]
STACKS = [
    Stack([0, 1, 2, 3, 4], complete=True),
    Stack([3, 4], complete=True),
    Stack([0, 5, 6], complete=False),
]
TOTALS = StackTotals(rate=1000, seen=9, taken=7, sure=3, sure_taken=3, unwound=7, complete=6)


def stacks(
    samples: Sequence[tuple[int, int, int]], *, time: int = 1_000_000, first: bool = True
) -> Stacks:
    """A record of samples (time, tid, stack), with all frames and stacks if it is the first."""
    return Stacks(
        time=time,
        first_frame=0 if first else len(FRAMES),
        first_stack=0 if first else len(STACKS),
        frames=FRAMES if first else [],
        stacks=STACKS if first else [],
        samples=np.array(list(samples), STACK_SAMPLE),
        totals=TOTALS,
    )
