# SPDX-License-Identifier: GPL-2.0-only
"""The decorators of the functions that become machine code.

`compiled` and `inlined` only note a function. `entry` does so, too, and makes of it what Python
calls: the machine code. The compiler runs in another process (`shadow.machine_code`).
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np

from shadow.precompile import machine_code
from shadow.table.state import State

__all__ = ("Entry", "Sample", "compiled", "entry", "functions", "inlined", "sampled", "signed")

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result", covariant=True)

signed = cast(Callable[[Any], int], np.int64)
"""Convert an unsigned number to a signed one, because numba turns a mixture into a float."""

_functions: dict[Callable[..., Any], bool] = {}


def functions() -> dict[Callable[..., Any], bool]:
    """All functions that become machine code, and whether callers have a copy of their own."""
    return dict(_functions)


def compiled(function: _Function) -> _Function:
    """Compile `function`, which only other compiled functions call."""
    _functions[function] = False
    return function


def inlined(function: _Function) -> _Function:
    """Compile `function` and inline it into its callers; for code that nearly every event runs."""
    _functions[function] = True
    return function


class Sample(NamedTuple):
    """Arguments of an entry, whose types it is compiled for.

    Attributes:
        function: the function in Python.
        arguments: the arguments.
        kinds: their kinds.
        words: the number of words that they take.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    kinds: str
    words: int


_samples: dict[str, Sample] | None = None


@contextmanager
def sampled() -> Iterator[dict[str, Sample]]:
    """Within the block, entries note their arguments, run nothing, and return 0."""
    global _samples
    _samples = {}
    try:
        yield _samples
    finally:
        _samples = None


@cache
def _kind(dtype: np.dtype[Any], dimensions: int) -> str:
    """The kind of an array; the members of a record enter by their checksum."""
    name = dtype.str
    if dtype.names:
        name = f"{zlib.crc32(repr(dtype.descr).encode()):08x}"
    return f"{name}[{dimensions}]"


def _take(argument: Any, kinds: list[str], words: list[int]) -> None:
    """Append the kind of an argument and its words, in numba's order (numba.core.datamodel)."""
    if isinstance(argument, State):
        kinds.append(f"State({argument.entries})")
        words.append(argument.pointer)
    elif isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise ValueError("compiled functions take only contiguous arrays")
        kinds.append(_kind(argument.dtype, argument.ndim))
        words += (0, 0, argument.size, argument.itemsize, argument.ctypes.data)
        words += argument.shape
        words += argument.strides
    elif isinstance(argument, tuple):
        for item in argument:
            _take(item, kinds, words)
    else:
        kinds.append("bool" if isinstance(argument, bool | np.bool_) else "int")
        words.append(int(argument))


def _entries(arguments: tuple[Any, ...]) -> int | None:
    """The entries of the PTE pages of a `State`; None: there is none."""
    return next((each.entries for each in arguments if isinstance(each, State)), None)


class Entry(Generic[_Arguments, _Result]):
    """A function that Python calls as machine code.

    The arguments are `State`s, contiguous arrays, numbers, truth values, and tuples of these;
    the result is a number or None.

    Args:
        function: the function in Python.
    """

    def __init__(self, function: Callable[_Arguments, _Result]) -> None:
        self.function = function
        self._name = f"{function.__module__}.{function.__qualname__}"
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: _Arguments.args, **_none: _Arguments.kwargs) -> _Result:
        """Call it.

        Raises:
            UnsupportedHostError: there is no machine code, and it cannot be made.
            TypeError: the arguments have other types.
            ValueError: an array is not contiguous.
        """
        kinds: list[str] = []
        words: list[int] = []
        _take(arguments, kinds, words)
        joined = ",".join(kinds)
        if _samples is not None:
            _samples[self._name] = Sample(self.function, arguments, joined, len(words))
            return cast(_Result, 0)
        return cast(_Result, machine_code(_entries(arguments)).call(self._name, joined, words))


def entry(function: Callable[_Arguments, _Result]) -> Entry[_Arguments, _Result]:
    """Compile `function` for calls from Python; compiled functions may call it, too."""
    _functions[function] = False
    return Entry(function)
