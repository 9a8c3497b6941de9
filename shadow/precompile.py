# SPDX-License-Identifier: GPL-2.0-only
"""Prepares the compiled functions before time matters.

A first start on a machine compiles them in another process, which fills the cache: the compiler
takes half a GiB of memory, and the caller can follow a process meanwhile. Each page size has
functions of its own, because their arithmetic has it as a constant; those of the others are
compiled when a trace needs them.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numba.core.registry import cpu_target

from shadow.events import EVENT
from shadow.geometry import MODELLED, X86_64, Geometry
from shadow.isolated_python import isolated_python
from shadow.table.jit import SOURCES, announce, cache_place, compiling, forget_compiling
from shadow.table.state import VMA
from shadow.table.table import Table

__all__ = ("Preparation", "prepare")

_COMPILE = """
import ctypes
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: end with the caller
from shadow.precompile import compile_into_cache
compile_into_cache({entries})
"""
_SECONDS_UNUSED = 14 * 86400
"""Age at which the machine code of other versions is removed, counted from its last use."""


def _what(geometry: Geometry) -> str:
    """What the log says that is compiled."""
    pages = "" if geometry.entries == X86_64.entries else f" for pages of {geometry.page_text}"
    return f"the shadow table{pages}, about a minute"


def _call_each(geometry: Geometry) -> None:
    """Call every function that a caller of `Table` needs, once."""
    table = Table(geometry=geometry)
    table.feed(np.empty(0, EVENT))
    none = np.empty(0, np.int64)
    pages = Table.of_runs(none, none, np.empty(0, np.uint8), geometry).pages()
    table.seed(replace(pages, guards=(none, none)), 0)
    table.adopt_upper(none, none)
    table.seed_vmas(np.empty(0, VMA), 0)
    table.fork()


def _stamp(folder: Path, geometry: Geometry) -> Path:
    """A file that exists once the folder has all functions for pages of this size.

    numba keeps machine code for one processor and for source files of one path and time.
    """
    context: Any = cpu_target.target_context
    sources = [(str(path), path.stat().st_mtime_ns) for path in SOURCES]
    machine = sys.implementation.cache_tag, context.codegen().magic_tuple()
    made_for = repr((*machine, sources, geometry.entries))
    return folder / f"complete-{hashlib.sha256(made_for.encode()).hexdigest()[:16]}"


def compile_into_cache(entries: int) -> None:
    """Compile everything for PTE pages of so many entries; for `Preparation`.

    It notes that the cache has it.
    """
    geometry = next(each for each in MODELLED if each.entries == entries)
    folder, _ = cache_place()
    if folder is None:
        return
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of commands that start together, one compiles
        _call_each(geometry)
        stamp = _stamp(folder, geometry)
        stamp.touch(mode=0o600)
        with suppress(OSError):
            _remove_unused(folder, stamp.stat().st_mtime)


def _remove_unused(folder: Path, now: float) -> None:
    """Remove the machine code of versions that nobody has used for some time."""
    for lock in folder.parent.glob("*/lock"):
        other = lock.parent
        if other == folder or not re.fullmatch("[0-9a-f]{16}", other.name):
            continue
        used = max(path.stat().st_mtime for path in (lock, *other.glob("complete-*")))
        if now - used > _SECONDS_UNUSED:
            shutil.rmtree(other, ignore_errors=True)


class Preparation:
    """The compiled functions, which another process may still be compiling.

    As a context manager, it ends that process at the end of the block.

    Args:
        geometry: the page tables that the functions are for.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        folder, _ = cache_place()
        self._compiler: subprocess.Popen[bytes] | None = None
        if folder is None:
            return  # `finish` compiles: another process could not hand over its result
        with suppress(OSError):
            os.utime(_stamp(folder, geometry))  # raises unless it exists
            return
        announce(_what(geometry))
        self._compiler = subprocess.Popen(
            isolated_python(_COMPILE.format(entries=geometry.entries)),
            process_group=0,  # Ctrl-C of a terminal does not reach it; it ends with the caller
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # if it fails, `finish` compiles, and raises the error
        )

    def done(self) -> bool:
        """Whether `finish` returns within a second."""
        return self._compiler is None or self._compiler.poll() is not None

    def finish(self, *, lean: bool = False) -> None:
        """Wait for the compiler, and load the functions.

        Args:
            lean: use 28 MiB less, for a caller that compiles no more of the table's functions.
        """
        with compiling(_what(self._geometry)):
            if self._compiler:
                self._compiler.wait()
            _call_each(self._geometry)
        if lean:
            forget_compiling()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._compiler and self._compiler.poll() is None:
            self._compiler.kill()
            self._compiler.wait()


def prepare(geometry: Geometry = X86_64, *, lean: bool = False) -> None:
    """Compile the loop, or load it from the cache, before time matters.

    Compiling takes about a minute, and the log says so. Later starts on the same machine load
    the cache in 0.1 s.

    Args:
        geometry: the page tables that it is for.
        lean: see `Preparation.finish`.
    """
    with Preparation(geometry) as preparation:
        preparation.finish(lean=lean)
