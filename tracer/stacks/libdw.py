# SPDX-License-Identifier: GPL-2.0-only
"""elfutils' libdw through ctypes: the few functions that unwinding and naming need.

Source of the declarations: libdwfl/libdwfl.h of elfutils; none has changed since 0.158.
"""

import ctypes
from ctypes import CDLL, CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_uint64, c_void_p
from functools import cache

from shadow.errors import UnsupportedHostError
from tracer.system_packages import how_to_install

__all__ = ("DwflCallbacks", "FIND_ELF", "LIBRARY", "Symbol", "ThreadCallbacks", "libdw")

LIBRARY = "libdw.so.1"
"""The name of the shared object."""

FIND_ELF = CFUNCTYPE(
    c_int, c_void_p, POINTER(c_void_p), c_char_p, c_uint64, POINTER(c_void_p), POINTER(c_void_p)
)
"""Opens the file of a module: (module, user data, name, base, file name, Elf) -> descriptor."""


class DwflCallbacks(Structure):
    """Dwfl_Callbacks."""

    _fields_ = (
        ("find_elf", FIND_ELF),
        ("find_debuginfo", c_void_p),
        ("section_address", c_void_p),
        ("debuginfo_path", c_void_p),
    )


class ThreadCallbacks(Structure):
    """Dwfl_Thread_Callbacks."""

    _fields_ = (
        ("next_thread", c_void_p),
        ("get_thread", c_void_p),
        ("memory_read", c_void_p),
        ("set_initial_registers", c_void_p),
        ("detach", c_void_p),
        ("thread_detach", c_void_p),
    )


class Symbol(Structure):
    """GElf_Sym."""

    _fields_ = (
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_uint8),
        ("other", ctypes.c_uint8),
        ("section", ctypes.c_uint16),
        ("value", c_uint64),
        ("size", c_uint64),
    )


_FUNCTIONS = {
    "dwfl_begin": (c_void_p, (c_void_p,)),
    "dwfl_end": (None, (c_void_p,)),
    "dwfl_report_begin": (None, (c_void_p,)),
    "dwfl_report_module": (c_void_p, (c_void_p, c_char_p, c_uint64, c_uint64)),
    "dwfl_report_end": (c_int, (c_void_p, c_void_p, c_void_p)),
    "dwfl_attach_state": (c_int, (c_void_p, c_void_p, c_int, c_void_p, c_void_p)),
    "dwfl_getthread_frames": (c_int, (c_void_p, c_int, c_void_p, c_void_p)),
    "dwfl_addrmodule": (c_void_p, (c_void_p, c_uint64)),
    "dwfl_module_addrinfo": (
        c_char_p,
        (
            *(c_void_p, c_uint64, POINTER(c_uint64), POINTER(Symbol)),
            *(c_void_p, c_void_p, c_void_p),
        ),
    ),
    "elf_rawfile": (c_void_p, (c_void_p, c_void_p)),
    "dwfl_module_getelf": (c_void_p, (c_void_p, POINTER(c_uint64))),
    "dwfl_errmsg": (c_char_p, (c_int,)),
}


@cache
def libdw() -> CDLL:
    """The library, with the types of its functions.

    Raises:
        UnsupportedHostError: it is not installed.
    """
    try:
        library = CDLL(LIBRARY)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnsupportedHostError(
            f"Stacks need {LIBRARY} of elfutils, which cannot be loaded ({error}). Install it "
            f"({how_to_install('libdw')}), or leave out --stacks."
        ) from error
    return library
