# SPDX-License-Identifier: GPL-2.0-only
"""The entry of a page of this process, from which formats of entries learn."""

import ctypes
import mmap
import os

import numpy as np

from shadow.errors import UnsupportedHostError
from shadow.geometry import Geometry
from tracer.census.address_space import AddressSpaces
from tracer.census.entries import EntryFormat
from tracer.census.kernel_memory import KernelMemory
from tracer.page_size import PAGE

__all__ = ("own_inaccessible_entry",)

_PROT_NONE = 0


def _entry(
    memory: KernelMemory, spaces: AddressSpaces, geometry: Geometry, form: EntryFormat, address: int
) -> int:
    """The entry of a page of this process in its PTE page; it must have one."""
    table = spaces.pgd(spaces.mm(os.getpid()))
    for level in range(geometry.levels, 0, -1):
        index = address // geometry.span(level) % geometry.entries
        entry = memory.word(table + 8 * index)
        if level == 1:
            return entry
        words = np.array([entry], np.uint64)
        if not form.is_table(words)[0]:
            break
        table = spaces.direct_map + int(form.frames(words)[0])
    raise UnsupportedHostError("The page tables of this process cannot be followed.")


def own_inaccessible_entry(
    memory: KernelMemory, spaces: AddressSpaces, geometry: Geometry, form: EntryFormat
) -> int:
    """The entry of a page that was written and then made inaccessible.

    Raises:
        UnsupportedHostError: the page tables of this process cannot be read.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        area[0] = 1
        view = ctypes.c_char.from_buffer(area)
        address = ctypes.addressof(view)
        del view
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), _PROT_NONE):
            raise UnsupportedHostError(f"mprotect: {os.strerror(ctypes.get_errno())}")
        return _entry(memory, spaces, geometry, form, address)
