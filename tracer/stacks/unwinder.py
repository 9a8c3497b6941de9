# SPDX-License-Identifier: GPL-2.0-only
"""Unwinds the samples of one process with libdw.

libdw gets the modules of the process as /proc shows them, and the registers and the stack from
the sample. It opens a module's file when it first meets the module.
"""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.stacks.callbacks import Callbacks
from tracer.stacks.libdw import FIND_ELF, DwflCallbacks, ThreadCallbacks, libdw
from tracer.stacks.modules import CodeMap, Module, open_module, open_root, own_vdso
from tracer.stacks.scratch import (
    AT,
    CUT,
    DATA,
    FRAMES,
    PCS,
    READS,
    REGISTERS,
    SIZE,
    SP,
    new_scratch,
)

__all__ = ("RBP", "RIP", "RSP", "Unwinder", "Unwound")

_PT_REGS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
)
_DWARF = (
    *("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)
_DWARF_ORDER = np.array([_PT_REGS.index(name) for name in _DWARF])
"""For each register of DWARF, its index in struct pt_regs."""
RBP, RIP, RSP = (_PT_REGS.index(name) for name in ("rbp", "rip", "rsp"))
"""Their indexes in struct pt_regs."""


@dataclass(frozen=True)
class Unwound:
    """An unwound stack.

    Attributes:
        pcs: the PC of each frame, innermost first, within the call instruction.
        words: (index, value) of the word of the stack with the return address of each frame but
            the first; None: libdw has read it elsewhere.
        complete: whether the last frame is the first function of the thread.
        cut: whether the stack leads out of its copied part.
    """

    pcs: list[int]
    words: list[tuple[int, int]] | None
    complete: bool
    cut: bool


class Unwinder:
    """libdw's view of one process.

    Args:
        pid: the process.
        callbacks: the compiled callbacks.
    """

    def __init__(self, pid: int, callbacks: Callbacks) -> None:
        self.pid = pid
        self._root = open_root(pid)
        self._duplicate = ctypes.CDLL(None).strdup
        self._duplicate.restype, self._duplicate.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
        self._library = libdw()
        self._callbacks = callbacks
        self._scratch = new_scratch()
        self._by_base: dict[int, Module] = {}
        self._find_elf = FIND_ELF(self._open)
        own = ctypes.CDLL("libdw.so.1")
        self._dwfl_callbacks = DwflCallbacks(
            find_elf=self._find_elf,
            find_debuginfo=_address(own.dwfl_standard_find_debuginfo),
        )
        self._thread_callbacks = ThreadCallbacks(
            next_thread=callbacks.get_thread.address,  # required, but get_thread is preferred
            get_thread=callbacks.get_thread.address,
            memory_read=callbacks.memory_read.address,
            set_initial_registers=callbacks.set_initial_registers.address,
        )
        self._dwfl = self._library.dwfl_begin(ctypes.byref(self._dwfl_callbacks))
        self._attached = False

    def _open(self, *arguments: Any) -> int:
        """find_elf of libdw: open the file of a module."""
        _module, _data, _name, base, file_name, _elf = arguments
        file_name[0] = None
        module = self._by_base.get(base)
        if module is None:
            return -1
        fd = open_module(self.pid, self._root, module) if module.inode else own_vdso()
        if fd is None:
            return -1
        # libdw looks for a debug file beside this one, and frees the name.
        file_name[0] = self._duplicate(os.fsencode(module.name))
        return fd

    def report(self, code: CodeMap) -> None:
        """Replace the modules; libdw keeps those that stay where they were."""
        self._by_base = {module.start: module for module in code.modules}
        library, dwfl = self._library, self._dwfl
        library.dwfl_report_begin(dwfl)
        for module in code.modules:
            if module.has_image:
                name = os.fsencode(module.name) + b":%d" % module.inode
                library.dwfl_report_module(dwfl, name, module.start, module.end)
        library.dwfl_report_end(dwfl, None, None)
        if not self._attached:
            self._attached = not library.dwfl_attach_state(
                dwfl,
                None,
                self.pid,
                ctypes.byref(self._thread_callbacks),
                self._scratch.ctypes.data,
            )

    def unwind(
        self, registers: npt.NDArray[np.uint64], stack: npt.NDArray[np.uint64], size: int
    ) -> Unwound:
        """Unwind a sample.

        Args:
            registers: struct pt_regs.
            stack: the words of the stack.
            size: the number of bytes of it that were read.
        """
        scratch = self._scratch
        scratch[REGISTERS : REGISTERS + len(_DWARF_ORDER)] = registers[_DWARF_ORDER].view(np.int64)
        scratch[SP], scratch[SIZE] = scratch[REGISTERS + _DWARF.index("rsp")], size
        scratch[FRAMES] = scratch[READS] = scratch[CUT] = 0
        scratch[DATA : DATA + size // 8] = stack[: size // 8].view(np.int64)
        ended = self._library.dwfl_getthread_frames(
            self._dwfl, self.pid, self._callbacks.frame.address, scratch.ctypes.data
        )
        count = int(scratch[FRAMES])
        pcs = scratch[PCS : PCS + count].tolist()
        at = scratch[AT + 1 : AT + count].tolist()
        words = None
        if min(at, default=0) >= 0:
            words = [(index, int(scratch[DATA + index])) for index in at]
        # libdw takes a return address that it cannot read for the end of the stack.
        cut = bool(scratch[CUT])
        return Unwound(pcs, words, complete=ended == 0 and count > 0 and not cut, cut=cut)

    def module(self, address: int) -> int | None:
        """libdw's module at an address; None: it has none."""
        found: int | None = self._library.dwfl_addrmodule(self._dwfl, address)
        return found

    def close(self) -> None:
        """Free everything."""
        self._library.dwfl_end(self._dwfl)
        if self._root is not None:
            os.close(self._root)


def _address(function: Callable[..., Any]) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
