# SPDX-License-Identifier: GPL-2.0-only
"""The 512-bit maps of a PTE page: set, clear and count ranges.

A map is one row of 8 words of 64 bits; entry i is bit i % 64 of word i // 64.
"""

import numpy as np
import numpy.typing as npt

from shadow.table.compiled import compiled, inlined, signed

__all__ = ("clear_range", "copy_range", "is_set", "set_bit", "set_range", "count_range")

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_1 = np.uint64(1)
_2 = np.uint64(2)
_4 = np.uint64(4)
_56 = np.uint64(56)
_M1 = np.uint64(0x5555555555555555)
_M2 = np.uint64(0x3333333333333333)
_M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_H1 = np.uint64(0x0101010101010101)

Map = npt.NDArray[np.uint64]


@compiled
def _ones(word: np.uint64) -> int:
    x = word - ((word >> _1) & _M1)
    x = (x & _M2) + ((x >> _2) & _M2)
    x = (x + (x >> _4)) & _M4
    return signed((x * _H1) >> _56)


@compiled
def _mask(word: int, low: int, high: int) -> np.uint64:
    """The bits of this word that lie in [low, high) of the whole map."""
    first = max(low - 64 * word, 0)
    last = min(high - 64 * word, 64)
    if first == 0 and last == 64:
        return _ALL
    return ((_1 << np.uint64(last - first)) - _1) << np.uint64(first)


@inlined
def is_set(row: Map, index: int) -> bool:
    """Whether entry `index` is set."""
    return (row[index >> 6] >> np.uint64(index & 63)) & _1 != np.uint64(0)


@inlined
def set_bit(row: Map, index: int) -> bool:
    """Set entry `index`; return whether it was not set before."""
    bit = _1 << np.uint64(index & 63)
    was = row[index >> 6] & bit
    row[index >> 6] |= bit
    return was == np.uint64(0)


@compiled
def set_range(row: Map, low: int, high: int) -> int:
    """Set entries [low, high); return how many were not set before."""
    added = 0
    for word in range(low >> 6, (high + 63) >> 6):
        new = _mask(word, low, high) & ~row[word]
        row[word] |= new
        added += _ones(new)
    return added


@compiled
def copy_range(row: Map, source: Map, low: int, high: int) -> int:
    """Set the entries of [low, high) that `source` has; return how many were not set before."""
    added = 0
    for word in range(low >> 6, (high + 63) >> 6):
        new = _mask(word, low, high) & source[word] & ~row[word]
        row[word] |= new
        added += _ones(new)
    return added


@compiled
def clear_range(row: Map, low: int, high: int) -> int:
    """Clear entries [low, high); return how many were set before."""
    removed = 0
    for word in range(low >> 6, (high + 63) >> 6):
        old = _mask(word, low, high) & row[word]
        row[word] &= ~old
        removed += _ones(old)
    return removed


@compiled
def count_range(row: Map, low: int, high: int) -> int:
    """The number of entries of [low, high) that are set."""
    total = 0
    for word in range(low >> 6, (high + 63) >> 6):
        total += _ones(_mask(word, low, high) & row[word])
    return total
