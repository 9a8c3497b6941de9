# SPDX-License-Identifier: GPL-2.0-only
"""The decorator under which the table's functions are compiled.

Machine code is cached, so only the first run on a machine pays for the compiler. The
cache folder is named after a digest of all that is compiled, and of the modules whose
constants it uses: numba checks only the file of the outermost function, and an edit of a
callee must not leave stale code behind.
"""

import hashlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import event

from shadow.table.cache import VARIABLE, cache_folder

__all__ = ("SOURCES", "compiled", "compiling", "forget_compiling", "inlined", "signed")

_log = logging.getLogger("ptescope")
_njit: Any = numba.njit
_Function = TypeVar("_Function", bound=Callable[..., Any])


signed = cast(Callable[[Any], int], np.int64)
"""An unsigned number as a signed one: numba makes a float of a mixture of both."""


_SHADOW = Path(__file__).parents[1]
_CONSTANTS = ("events.py", "geometry.py", "policy.py", "memory_limit.py", "uapi.py")
SOURCES = (
    *sorted((_SHADOW / "table").rglob("*.py")),
    *sorted((_SHADOW / "whatif").rglob("*.py")),
    *(_SHADOW / name for name in _CONSTANTS),
)
"""All that is compiled, and what it takes its constants from."""


def _digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


_FOLDER, _REFUSED = cache_folder(_digest())
if _FOLDER:
    _config: Any = numba.config
    _config.CACHE_DIR = str(_FOLDER)
_functions: list[Any] = []


def compiled(function: _Function) -> _Function:
    """Compile `function` with numba, keeping its Python signature for the types.

    The functions pass the arrays of one address space to each other and allocate
    none. Without `_nrt=False` numba would count a reference to every array at
    every call, which costs 2.8 us an event instead of 0.1 us.
    """
    return _with(function)


def inlined(function: _Function) -> _Function:
    """The same for what nearly every event goes through: inlined wherever it is called.

    A call hands over some 60 words, the descriptions of eight arrays, so calls are
    what an event costs: 65 ns with them, 15 ns without. The compiler takes 50 s
    instead of 25 for it, once on a machine.
    """
    return _with(function, forceinline=True)


def _with(function: _Function, **options: bool) -> _Function:
    made = _njit(cache=_FOLDER is not None, nogil=True, _nrt=False, **options)(function)
    if _FOLDER:
        made._cache.save_overload = _kept_if_possible(made._cache.save_overload)
    _functions.append(made)
    return cast(_Function, made)


def _kept_if_possible(save: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """numba's `save_overload`, but a full disk costs only the next start its time."""

    def save_overload(signature: Any, code: Any) -> None:
        try:
            save(signature, code)
        except OSError as error:
            _not_kept(error.strerror or str(error))

    return save_overload


@cache
def _not_kept(why: str) -> None:
    """Say it once."""
    _log.warning(
        "ptescope: %s cannot take what is compiled: %s. The next start compiles again; make "
        "room there, or set %s to another folder.", _FOLDER, why, VARIABLE,
    )  # fmt: skip


class _Announcement(event.Listener):
    """Says in the log that something is compiled, when the first function is.

    Args:
        what: is compiled, and how long that takes.
    """

    def __init__(self, what: str) -> None:
        self._what, self._said = what, False

    def on_start(self, event: object) -> None:  # noqa: ARG002
        """numba compiles a function, which it does not do if the cache has it."""
        if self._said:
            return
        self._said = True
        kept = f"It is kept in {_FOLDER}, so later starts take a second."
        if _FOLDER is None:
            kept = f"No folder can keep it ({'; '.join(_REFUSED)}): set {VARIABLE} to one."
        _log.warning("ptescope: compiling %s. %s", self._what, kept)

    def on_end(self, event: object) -> None:
        """numba has compiled a function."""


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Announce whatever is compiled in this block, and let SIGINT and SIGTERM end it at once.

    A handler in Python would wait until the compiler returns.

    Args:
        what: is compiled, and how long that takes.
    """
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(number, signal.SIG_DFL)
    try:
        with event.install_listener("numba:compile", _Announcement(what)):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def forget_compiling() -> None:
    """Let go of what numba keeps of each function for callers compiled later: 28 MiB.

    Nothing new can be compiled afterwards. numba has no call for this.
    """
    for function in _functions:
        for overload in function.overloads.values():
            if hasattr(overload.library, "_shared_module"):
                overload.library._shared_module = None
