"""The decorator under which the table's functions are compiled.

Machine code is cached, so only the first run on a machine pays for the
compiler. The cache folder is named after a digest of what is compiled, this
package and the modules whose constants it uses: numba checks only the file of
the outermost function, and an edit of a callee must not leave stale code
behind. Only the owner may write to it, and it lies in the account's own home
whatever $HOME says, because what lies in it is run.
"""

import hashlib
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

__all__ = ("compiled", "forget_compiling", "inlined", "signed")

_njit: Any = numba.njit
_Function = TypeVar("_Function", bound=Callable[..., Any])


signed = cast(Callable[[Any], int], np.int64)
"""An unsigned number as a signed one: numba makes a float of a mixture of both."""


_PACKAGE = Path(__file__).parent
_CONSTANTS = ("events.py", "geometry.py", "policy.py")
_SOURCES = [*sorted(_PACKAGE.rglob("*.py")), *(_PACKAGE.parent / name for name in _CONSTANTS)]


def _cache_folder() -> Path:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in _SOURCES:
        digest.update(source.read_bytes())
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    folder = home / ".cache" / "ptescope" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _prepare_cache() -> bool:
    try:
        folder = _cache_folder()
    except OSError:
        return False  # no home to write to: compile anew each time
    owner = folder.stat()
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o022:
        return False
    config: Any = numba.config
    config.CACHE_DIR = str(folder)
    return True


_CACHED = _prepare_cache()
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
    made = _njit(cache=_CACHED, nogil=True, _nrt=False, **options)(function)
    _functions.append(made)
    return cast(_Function, made)


def forget_compiling() -> None:
    """Let go of what numba keeps of each function for callers compiled later: 28 MiB.

    Nothing new can be compiled afterwards. numba has no call for this.
    """
    for function in _functions:
        for overload in function.overloads.values():
            if hasattr(overload.library, "_shared_module"):
                overload.library._shared_module = None
