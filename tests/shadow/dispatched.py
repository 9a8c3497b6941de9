# SPDX-License-Identifier: GPL-2.0-only
"""Compiled functions that Python never calls, for tests of their own."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from shadow.machine_code.compiler import dispatchers

__all__ = ("dispatched",)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@cache
def _made() -> dict[Callable[..., Any], Any]:
    return dispatchers()


def dispatched(function: _Function) -> _Function:
    """`function`, compiled by numba in this process when it is called first."""
    return cast(_Function, _made()[function])
