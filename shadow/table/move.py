# SPDX-License-Identifier: GPL-2.0-only
"""Move elements within an array, as memmove does."""

from typing import Any

import numpy.typing as npt

__all__ = ("move",)


def move(array: npt.NDArray[Any], to: int, origin: int, count: int) -> None:
    """Copy `count` elements of a contiguous array, which may overlap.

    In machine code this is `shadow.machine_code.move_elements`, since a loop over structured
    elements copies them one member at a time, which is five times slower.
    """
    array[to : to + count] = array[origin : origin + count].copy()
