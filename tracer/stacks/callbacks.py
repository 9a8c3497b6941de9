# SPDX-License-Identifier: GPL-2.0-only
"""The callbacks of libdw that run for every read and every frame, as machine code.

In Python they would take three quarters of the time of a stack. numba compiles them, and
resolves libdw's functions in them by name.
"""

from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numba
from numba.core.types import ExternalFunction

from tracer.stacks.libdw import LIBRARY, libdw
from tracer.stacks.scratch import (
    ACTIVATION,
    AT,
    CUT,
    DATA,
    FRAMES,
    LOG,
    MOST_FRAMES,
    MOST_READS,
    NOWHERE,
    PC,
    PCS,
    READS,
    REGISTERS,
    SELF,
    SIZE,
    SP,
    WORDS,
)

__all__ = ("Callbacks", "compile_callbacks")

_WORD_BYTES = 8
_DWARF_REGISTERS = 17
_RIP = 16
_GO_ON, _STOP = 0, 1  # DWARF_CB_OK, DWARF_CB_ABORT


@dataclass(frozen=True)
class Callbacks:
    """numba's compiled callbacks; each has an `address`.

    They must live as long as libdw may call them.
    """

    get_thread: Any
    memory_read: Any
    set_initial_registers: Any
    frame: Any


def compile_callbacks() -> Callbacks:
    """Compile the callbacks, in about half a second.

    Raises:
        UnsupportedHostError: libdw is not installed.
    """
    libdw()
    llvmlite.binding.load_library_permanently(LIBRARY)
    compiler: Any = numba
    types, carray = compiler.types, compiler.carray
    word, pointer = types.int64, types.CPointer(types.int64)
    flag, number = types.uint8, types.int32
    frame_pc: Any = ExternalFunction("dwfl_frame_pc", flag(word, word, word))
    set_registers: Any = ExternalFunction(
        "dwfl_thread_state_registers", flag(word, number, types.uint32, word)
    )
    set_pc: Any = ExternalFunction("dwfl_thread_state_register_pc", types.void(word, word))

    def get_thread(_dwfl: int, _tid: int, scratch: int, thread: Any) -> int:
        thread[0] = scratch
        return 1

    def memory_read(_dwfl: int, address: int, result: Any, scratch: Any) -> int:
        words = carray(scratch, (WORDS,))
        offset = address - words[SP]
        if offset < 0 or offset > words[SIZE] - _WORD_BYTES or offset % _WORD_BYTES:
            words[CUT] = 1
            return 0
        index = offset // _WORD_BYTES
        result[0] = words[DATA + index]
        words[LOG + words[READS] % MOST_READS] = index
        words[READS] += 1
        return 1

    def set_initial_registers(thread: int, scratch: Any) -> Any:
        words = carray(scratch, (WORDS,))
        set_pc(thread, words[REGISTERS + _RIP])
        return set_registers(thread, 0, _DWARF_REGISTERS, words[SELF] + _WORD_BYTES * REGISTERS)

    def frame(state: int, scratch: Any) -> int:
        words = carray(scratch, (WORDS,))
        count = words[FRAMES]
        reads = words[READS]  # dwfl_frame_pc makes those of the next frame
        words[ACTIVATION] = 0
        here = words[SELF]
        if count == MOST_FRAMES or not frame_pc(
            state, here + _WORD_BYTES * PC, here + _WORD_BYTES * ACTIVATION
        ):
            return _STOP
        # The word that was read last and holds the PC is the return address.
        words[AT + count] = NOWHERE
        for back in range(min(reads, MOST_READS // 2)):
            index = words[LOG + (reads - 1 - back) % MOST_READS]
            if words[DATA + index] == words[PC]:
                words[AT + count] = index
                break
        words[PCS + count] = words[PC] - (words[ACTIVATION] & 1 == 0)
        words[FRAMES] = count + 1
        return _GO_ON

    return Callbacks(
        get_thread=compiler.cfunc(flag(word, number, word, pointer))(get_thread),
        memory_read=compiler.cfunc(flag(word, word, pointer, pointer))(memory_read),
        set_initial_registers=compiler.cfunc(flag(word, pointer))(set_initial_registers),
        frame=compiler.cfunc(number(word, pointer))(frame),
    )
