# SPDX-License-Identifier: GPL-2.0-only
"""The stacks of one process: its mappings, libdw's view of it, and the stacks known so far."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shadow.stacks import NO_STACK, Frame
from tracer.stacks.callbacks import Callbacks
from tracer.stacks.messages import Work
from tracer.stacks.modules import CodeMap, code_map
from tracer.stacks.naming import FIRST_FUNCTIONS, Namer
from tracer.stacks.repeats import Repeats, Start
from tracer.stacks.unwinder import RBP, RIP, RSP, Unwinder, Unwound

__all__ = ("ProcessStacks",)

_AGAIN_SHARE = 20
"""A reading of the mappings that may be in vain waits 20 times as long as the last one took."""
_MOST_PLACES = 1 << 17
"""Most PCs whose frames are remembered."""
_Number = Callable[[tuple[Frame, ...], bool], int]


class ProcessStacks:
    """The stacks of one process.

    Args:
        pid: the process.
        callbacks: the compiled callbacks of libdw.
        demangle: see `tracer.stacks.naming.demangler`.
        number: returns the number of a stack, given its frames and whether it is complete.
    """

    def __init__(
        self,
        pid: int,
        callbacks: Callbacks,
        demangle: Callable[[bytes], bytes | None],
        number: _Number,
    ) -> None:
        self._pid, self._number = pid, number
        self._unwinder = Unwinder(pid, callbacks)
        self._namer = Namer(self._unwinder, demangle)
        self._code = CodeMap([])
        self._generation = -1
        self._next = 0.0
        self._repeats = Repeats()
        self._frames: dict[int, Frame] = {}
        self._whole: dict[int, bool] = {}
        """By number, whether a known stack is complete."""

    def read_mappings(self) -> None:
        """Read the mappings again, and forget the stacks if they have changed.

        Images that are gone stay, as far as nothing else is mapped there: samples that wait may
        still refer to them.
        """
        begin = time.monotonic()
        try:
            code = code_map(self._pid)
        except OSError:  # it has ended; what is known remains
            code = self._code
        self._next = begin + _AGAIN_SHARE * (time.monotonic() - begin)
        code = code.with_former(self._code)
        if code.modules != self._code.modules:
            self._code = code
            self._unwinder.report(code)
            self._repeats = Repeats()
            self._frames.clear()

    def new_code(self, generation: int) -> None:
        """Note that the process got new code."""
        self._generation = generation
        self.read_mappings()

    def take(self, sample: np.void, words: memoryview, work: Work) -> int:
        """Unwind a sample; returns the number of its stack.

        Args:
            sample: of `tracer.probes.stack_sampling.SAMPLE`.
            words: the words of its stack.
            work: counts what was done.
        """
        begin = time.thread_time_ns()
        if sample["code"] > self._generation:
            self.new_code(int(sample["code"]))
        registers, size = sample["registers"], int(sample["size"])
        start = _start(registers, size)
        known = self._repeats.find(start, words, size // 8)
        work.unwound += 1
        if known is not None:
            work.repeats += 1
            work.complete += self._whole[known]
            work.unwind_ns += time.thread_time_ns() - begin
            return known
        unwound = self._unwind(registers, sample["data"], size)
        named = time.thread_time_ns()
        work.unwind_ns += named - begin
        frames = tuple(map(self._frame, unwound.pcs))
        complete = unwound.complete or any(
            frame.function in FIRST_FUNCTIONS for frame in frames[-1:]
        )
        work.complete += complete
        number = self._number(frames, complete)
        again = complete or unwound.cut
        if unwound.words is not None and again and number != NO_STACK:
            self._repeats.add(start, unwound.words, number)
            self._whole[number] = complete
        work.names_ns += time.thread_time_ns() - named
        return number

    def _unwind(
        self, registers: npt.NDArray[np.uint64], stack: npt.NDArray[np.uint64], size: int
    ) -> Unwound:
        unwound = self._unwinder.unwind(registers, stack, size)
        lost = not unwound.complete and not unwound.cut
        if lost and time.monotonic() >= self._next:  # perhaps in code that no event showed
            before = self._code
            self.read_mappings()
            if self._code is not before:
                return self._unwinder.unwind(registers, stack, size)
        return unwound

    def _frame(self, pc: int) -> Frame:
        frame = self._frames.get(pc)
        if frame is None:
            if len(self._frames) >= _MOST_PLACES:
                self._frames.clear()
            frame = self._frames[pc] = self._namer.frame(pc, self._code)
        return frame

    def close(self) -> None:
        """Free what libdw holds."""
        self._unwinder.close()


def _start(registers: npt.NDArray[np.uint64], size: int) -> Start:
    """What `Repeats` starts from."""
    stack = int(registers[RSP])
    frame = int(registers[RBP]) - stack
    return int(registers[RIP]), frame if 0 <= frame < size else -1, size
