# SPDX-License-Identifier: GPL-2.0-only
"""The memory in which libdw's callbacks find a sample and leave what they unwound.

One array of signed 64-bit words, because libdw hands one pointer to its callbacks.
"""

import numpy as np
import numpy.typing as npt

__all__ = (
    "ACTIVATION",
    "AT",
    "CUT",
    "DATA",
    "FRAMES",
    "LOG",
    "MOST_FRAMES",
    "MOST_READS",
    "NOWHERE",
    "PC",
    "PCS",
    "READS",
    "REGISTERS",
    "SELF",
    "SIZE",
    "SP",
    "WORDS",
    "new_scratch",
)

MOST_FRAMES = 256
MOST_READS = 256
"""The number of reads that are remembered; libdw reads up to 17 registers for each frame."""
SP, SIZE, SELF, FRAMES, PC, ACTIVATION, READS, CUT = range(8)
"""Stack pointer; bytes of the stack; address of this array; number of frames; the current
frame's PC; whether it is a first frame or a signal frame; the number of reads;
whether libdw wanted to read outside the copied part of the stack."""
REGISTERS = 8
"""The registers of DWARF, 17 of them."""
PCS = 32
"""The PC of each frame, within its call instruction."""
AT = PCS + MOST_FRAMES
"""The index of the stack's word that holds the return address of each frame, or `NOWHERE`."""
LOG = AT + MOST_FRAMES
"""The indexes of the words that libdw has read last, in a circle."""
DATA = LOG + MOST_READS
"""The stack."""
WORDS = DATA + 1024
NOWHERE = -1


def new_scratch() -> npt.NDArray[np.int64]:
    """A new array with its own address in it."""
    scratch = np.zeros(WORDS, np.int64)
    scratch[SELF] = scratch.ctypes.data
    return scratch
