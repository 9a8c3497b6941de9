# SPDX-License-Identifier: GPL-2.0-only
"""The decorators that compile the table's functions.

Machine code is cached, so only the first run on a machine pays for the compiler. The name
of the cache folder is a digest of all compiled modules, and of the modules with constants
that they use. numba itself checks only the file of the outermost function, so it would use
stale code after an edit of a callee.

The decorators touch no file and no setting. The first compilation or load of a function
finds and creates the folder.
"""

import hashlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache, NullCache

from shadow.cache_folder import VARIABLE, cache_folder

__all__ = (
    "SOURCES",
    "announce",
    "cache_place",
    "compiled",
    "compiling",
    "forget_compiling",
    "inlined",
    "signed",
)

_log = logging.getLogger("ptescope")
_njit: Any = numba.njit
_function_cache: Any = FunctionCache
_Function = TypeVar("_Function", bound=Callable[..., Any])


signed = cast(Callable[[Any], int], np.int64)
"""Convert an unsigned number to a signed one, because numba turns a mixture into a float."""


_SHADOW = Path(__file__).parents[1]
_CONSTANTS = ("events.py", "geometry.py", "policy.py", "memory_limit.py", "uapi.py")
SOURCES = (
    *sorted((_SHADOW / "table").rglob("*.py")),
    *sorted((_SHADOW / "whatif").rglob("*.py")),
    *(_SHADOW / name for name in _CONSTANTS),
)
"""All compiled modules, and the modules with constants that they use."""


def _digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_place() -> tuple[Path | None, list[str]]:
    """The folder of the machine code, and why each better one was refused; see `cache_folder`."""
    return cache_folder(_digest())


class _LazyCache:
    """numba's cache of one function, opened when numba first accesses it.

    Args:
        function: the function to compile.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @cached_property
    def _opened(self) -> Any:
        folder, _ = cache_place()
        if folder is None:
            return NullCache()
        config: Any = numba.config
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder)  # numba has no other way to set the folder
        try:
            return _function_cache(self._function)
        finally:
            config.CACHE_DIR = before

    @property
    def cache_path(self) -> Any:
        """The folder, for numba's statistics."""
        return self._opened.cache_path

    def flush(self) -> None:
        """Forget the machine code of this function."""
        self._opened.flush()

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The machine code for these types, if the cache has it.

        A damaged file, as a crash of the machine leaves it, is replaced.
        """
        try:
            return self._opened.load_overload(signature, target)
        except Exception:
            self.flush()
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        """Save machine code; if the disk is full, the next start compiles again."""
        try:
            self._opened.save_overload(signature, code)
        except OSError as error:
            _not_kept(error.strerror or str(error))


_functions: list[Any] = []


def compiled(function: _Function) -> _Function:
    """Compile `function` with numba, keeping its Python signature for the types.

    The functions pass the arrays of one address space to each other and allocate
    none. Without `_nrt=False` numba would count a reference to every array at
    every call, which costs 2.8 us an event instead of 0.1 us.
    """
    return _with(function)


def inlined(function: _Function) -> _Function:
    """Compile `function` and inline it into its callers; for code that nearly every event runs.

    Calls would dominate the cost of an event. Inlining everything would triple the compiler's
    time, so code that is not on the way of a fault is called.
    """
    return _with(function, forceinline=True)


def _with(function: _Function, **options: bool) -> _Function:
    made = _njit(nogil=True, _nrt=False, **options)(function)
    made._cache = _LazyCache(function)
    _functions.append(made)
    return cast(_Function, made)


@cache
def _not_kept(why: str) -> None:
    """Warn once that the cache cannot save machine code."""
    _log.warning(
        "ptescope: cannot save compiled code in %s: %s. The next start compiles again; free "
        "space there, or set %s to another folder.", cache_place()[0], why, VARIABLE,
    )  # fmt: skip


def announce(what: str) -> None:
    """Log that the compiler runs, and where its result is saved.

    Args:
        what: the code to compile, and the time that this takes.
    """
    folder, refused = cache_place()
    kept = f"Saved in {folder}, so later starts take a second."
    if folder is None:
        kept = f"No folder can store it ({'; '.join(refused)}): set {VARIABLE} to one that can."
    _log.warning("ptescope: compiling %s. %s", what, kept)


class _Announcement(event.Listener):
    """Logs a message when numba compiles the first function, and lets signals end the process.

    Args:
        what: the code to compile, and the time that this takes.
    """

    def __init__(self, what: str) -> None:
        self._what, self._said = what, False
        self._handlers: dict[int, Any] = {}

    def on_start(self, event: object) -> None:  # noqa: ARG002
        """numba begins to compile a function that is not in the cache."""
        if self._said:
            return
        self._said = True
        announce(self._what)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, signal.SIG_DFL)

    def on_end(self, event: object) -> None:
        """numba has compiled a function."""

    def restore(self) -> None:
        """Handle signals as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Log a message if this block compiles, and let SIGINT and SIGTERM then end the process.

    A handler in Python would wait until the compiler returns.

    Args:
        what: the code to compile, and the time that this takes.
    """
    announcement = _Announcement(what)
    try:
        with event.install_listener("numba:compile", announcement):
            yield
    finally:
        announcement.restore()


def forget_compiling() -> None:
    """Free the 28 MiB that numba keeps for callers compiled later.

    Nothing new can be compiled afterwards. numba has no function for this.
    """
    for function in _functions:
        for overload in function.overloads.values():
            if hasattr(overload.library, "_shared_module"):
                overload.library._shared_module = None
