# SPDX-License-Identifier: GPL-2.0-only
"""The machine code of the compiled functions, which a first start makes before time matters.

The first start on a machine compiles them in another process and keeps the result: the compiler
takes half a GiB of memory, and the caller can follow a process meanwhile. Each page size has
machine code of its own, because its arithmetic has it as a constant; that of the others is made
when a trace needs it.
"""

import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from shadow.cache_folder import SHARED, VARIABLE, owner_problem
from shadow.errors import UnsupportedHostError
from shadow.geometry import X86_64, Geometry, geometry_of
from shadow.isolated_python import isolated_python
from shadow.machine_code.image import Image, ImageError, loaded
from shadow.machine_code.place import SHIPPED, cache_place, digest, image_name

__all__ = ("Preparation", "machine_code", "prepare")

_log = logging.getLogger("ptescope")
_COMPILE = """
import ctypes
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: end with the caller
import llvmlite.binding
# numba does not start where memory that was written cannot be executed. Nothing is, here.
llvmlite.binding.check_jit_execution = lambda: None
from shadow.machine_code.make import main
main()
"""
_ROOT = 0
_images: dict[int, Image] = {}
"""By the number of entries of a PTE page."""


def _load(folder: Path, entries: int) -> bool:
    """Load the machine code in a folder, if it is there and not damaged."""
    with suppress(OSError, ImageError), open(folder / image_name(entries), "rb") as file:
        _images[entries] = loaded(file.fileno())
        with suppress(OSError):
            os.utime(file.fileno())  # in use: see `shadow.machine_code.make`
    return entries in _images


def _load_shared(entries: int) -> bool:
    """Load what an installation compiled for all accounts, if nobody but root could write it."""
    folder = SHARED / digest()
    with suppress(OSError):
        return owner_problem(folder, _ROOT) is None and _load(folder, entries)
    return False


def _announce(geometry: Geometry) -> None:
    """Log that the compiler runs, and where its result is saved."""
    pages = "" if geometry.entries == X86_64.entries else f" for pages of {geometry.page_text}"
    folder, refused = cache_place()
    kept = f"Saved in {folder}, so later starts are ready at once."
    if folder is None:
        kept = f"No folder can store it ({'; '.join(refused)}): set {VARIABLE} to one that can."
    _log.warning("ptescope: compiling the shadow table%s, about 20 seconds. %s", pages, kept)


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process, whose own handlers would only note them."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Preparation:
    """The machine code, which another process may still be making.

    As a context manager, it ends that process at the end of the block.

    Args:
        geometry: the page tables that it is for.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._entries = entries = geometry.entries
        self._compiler: subprocess.Popen[bytes] | None = None
        if entries in _images or _load(SHIPPED / digest(), entries) or _load_shared(entries):
            return
        folder, _ = cache_place()
        if folder and _load(folder, entries):
            return
        _announce(geometry)
        self._result = os.memfd_create("ptescope machine code")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `finish` reads and closes it
        self._compiler = subprocess.Popen(
            [*isolated_python(_COMPILE), str(entries), str(self._result)],
            process_group=0,  # Ctrl-C of a terminal does not reach it; it ends with the caller
            pass_fds=(self._result,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def done(self) -> bool:
        """Whether `finish` returns at once."""
        return self._compiler is None or self._compiler.poll() is not None

    def finish(self) -> None:
        """Wait for the compiler, and load its result.

        Raises:
            UnsupportedHostError: the functions cannot be compiled here.
        """
        if self._compiler is None:
            return
        with _ending_signals():
            status = self._compiler.wait()
        self._compiler = None
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        try:
            if status:
                raise UnsupportedHostError(
                    f"The shadow table cannot be compiled here: {said[-1] if said else status}. "
                    "Check that numba, llvmlite and pyelftools of the versions in "
                    "pyproject.toml are installed."
                )
            _images[self._entries] = loaded(self._result)
        except (OSError, ImageError) as error:
            raise UnsupportedHostError(
                f"The machine code of the shadow table cannot be used here: {error}."
            ) from error
        finally:
            os.close(self._result)
            self._said.close()
        for line in said:
            _log.warning("ptescope: %s", line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._compiler:
            self._compiler.kill()
            self._compiler.wait()
            self._compiler = None
            os.close(self._result)
            self._said.close()


def prepare(geometry: Geometry = X86_64) -> None:
    """Load the machine code, or make it, before time matters.

    Making it takes some 20 seconds, and the log says so. Later starts on the same machine load
    it in a millisecond.

    Args:
        geometry: the page tables that it is for.

    Raises:
        UnsupportedHostError: the functions cannot be compiled here.
    """
    with Preparation(geometry) as preparation:
        preparation.finish()


def machine_code(entries: int | None) -> Image:
    """The machine code for PTE pages of so many entries, made now if nothing has prepared it.

    Args:
        entries: None: any machine code serves.

    Raises:
        UnsupportedHostError: the functions cannot be compiled here.
    """
    if entries is None:
        entries = next(iter(_images), X86_64.entries)
    if entries not in _images:
        prepare(geometry_of(entries))
    return _images[entries]
