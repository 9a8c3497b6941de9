# SPDX-License-Identifier: GPL-2.0-only
"""Names the frames of one process.

libdw knows the symbols of a file: its symbol tables and those of separate debug files, which it
finds by debuglink and build-id. Names of generated code come from `perf_map`. All names come
from the target, so they are bounded, and characters that control something are replaced.
"""

import ctypes
import struct
from collections.abc import Callable
from ctypes import c_int, c_uint64, c_void_p

from shadow.escape import printable
from shadow.stacks import LONGEST_NAME, Frame, Language
from tracer.stacks.libdw import Symbol, libdw
from tracer.stacks.modules import CodeMap, Module
from tracer.stacks.perf_map import PerfMap
from tracer.stacks.unwinder import Unwinder

__all__ = ("FIRST_FUNCTIONS", "Namer", "demangler")

_ENTRY_BYTES = 64
"""The longest `_start` of a C library."""
FIRST_FUNCTIONS = {"_start", "__clone3", "clone3", "__clone", "clone"}
"""The first functions of threads. Not every C library marks them as such for unwinders."""
_PYTHON = {"_PyEval_EvalFrameDefault", "PyEval_EvalFrameEx", "PyEval_EvalCodeEx"}
_PYTHON_PERF = "py::"
"""How the names of CPython's own perf map begin (python -X perf)."""


def _bounded(name: str) -> str:
    return printable(name[:LONGEST_NAME])[:LONGEST_NAME]


def demangler() -> Callable[[bytes], bytes | None]:
    """A function that demangles a C++ or Rust name; it returns None for other names."""
    try:
        demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
        free = ctypes.CDLL(None).free
    except (OSError, AttributeError):
        return lambda _: None
    demangle.restype, demangle.argtypes = c_void_p, (c_void_p,) * 4
    free.restype, free.argtypes = None, (c_void_p,)

    def plain(name: bytes) -> bytes | None:
        if not name.startswith(b"_Z"):
            return None
        status = c_int()
        text = demangle(name, None, None, ctypes.byref(status))
        if not text:
            return None
        try:
            return ctypes.string_at(text)
        finally:
            free(text)

    return plain


class Namer:
    """Names the frames of one process.

    Args:
        unwinder: libdw's view of the process.
        demangle: see `demangler`.
    """

    def __init__(self, unwinder: Unwinder, demangle: Callable[[bytes], bytes | None]) -> None:
        self._unwinder, self._demangle = unwinder, demangle
        self._library = libdw()
        self._perf_map = PerfMap(unwinder.pid)
        self._symbol, self._offset = Symbol(), c_uint64()

    def frame(self, pc: int, code: CodeMap) -> Frame:
        """The frame at a PC."""
        module = code.at(pc)
        if module is None:
            return Frame(None, None, pc)
        if not module.has_image:
            return self._generated(pc, module, code)
        found, bias = self._unwinder.module(pc), c_uint64()
        elf = found and self._library.dwfl_module_getelf(found, ctypes.byref(bias))
        name = _bounded(module.short_name)
        if not found or not elf:
            return Frame(None, name, pc - module.start)
        function = self._function(found, pc) or self._entry(pc - bias.value, elf)
        language = Language.PYTHON if function in _PYTHON else None
        return Frame(function, name, pc - bias.value, language)

    def _function(self, module: int, pc: int) -> str | None:
        raw: bytes | None = self._library.dwfl_module_addrinfo(
            module, pc, self._offset, self._symbol, None, None, None
        )
        if not raw or (self._symbol.size and self._offset.value >= self._symbol.size):
            return None
        name = (self._demangle(raw) or raw).decode(errors="replace")
        return _bounded(name.split("@@", 1)[0])

    def _entry(self, offset: int, elf: int) -> str | None:
        """`_start`, if this is the code at the entry point of an image without that symbol."""
        header = self._library.elf_rawfile(elf, None)
        if not header:
            return None
        (entry,) = struct.unpack_from("<Q", ctypes.string_at(header, 64), 24)
        return "_start" if 0 <= offset - entry < _ENTRY_BYTES else None

    def _generated(self, pc: int, module: Module, code: CodeMap) -> Frame:
        """A frame in memory that is no image: code of a JIT compiler."""
        name = self._perf_map.name(pc)
        language = Language.JIT
        if any(other.short_name.startswith("libjvm.so") for other in code.modules):
            language = Language.JAVA
        elif name and name.startswith(_PYTHON_PERF):
            language = Language.PYTHON
        where = _bounded(module.name) or "[generated code]"
        return Frame(name and _bounded(name), where, pc - module.start, language)
