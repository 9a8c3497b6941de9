# SPDX-License-Identifier: GPL-2.0-only
"""A set of page numbers that finds the nearest member on either side in constant time.

A bit of a word stands for a page; a bit of the level above says whether a word below has any.
Three to five levels of 64-bit words serve every history.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.table.compiled import compiled, inlined

__all__ = ("BitTree", "add", "first_from", "full_bit_tree", "last_until", "remove")

_WORD = 64
_SHIFT = 6
_1 = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class BitTree(NamedTuple):
    """The words of all levels, and where each level begins; the last level is one word."""

    words: npt.NDArray[np.uint64]
    """(words of all levels,)"""
    levels: npt.NDArray[np.int64]
    """(levels,) the index of each level's first word"""


def full_bit_tree(size: int) -> BitTree:
    """The set of all numbers below `size`, which is at least 1."""
    words, levels, total, count = [], [], 0, size
    while True:
        bits = np.ones(-(-count // _WORD) * _WORD, np.uint8)
        bits[count:] = 0
        words.append(np.packbits(bits, bitorder="little").view("<u8"))
        levels.append(total)
        count = len(words[-1])
        total += count
        if count == 1:
            return BitTree(np.concatenate(words), np.array(levels, np.int64))


@inlined
def add(tree: BitTree, number: int) -> None:
    """Add a number."""
    for level in range(len(tree.levels)):
        word = tree.levels[level] + (number >> _SHIFT)
        before = tree.words[word]
        tree.words[word] = before | _1 << np.uint64(number & (_WORD - 1))
        if before:
            return
        number >>= _SHIFT


@inlined
def remove(tree: BitTree, number: int) -> None:
    """Remove a number, if it is there."""
    for level in range(len(tree.levels)):
        word = tree.levels[level] + (number >> _SHIFT)
        tree.words[word] &= ~(_1 << np.uint64(number & (_WORD - 1)))
        if tree.words[word]:
            return
        number >>= _SHIFT


@compiled
def _lowest(word: np.uint64) -> int:
    """The place of the lowest bit."""
    place, width = 0, 32
    while width:
        if word & ((_1 << np.uint64(width)) - _1) == 0:
            word >>= np.uint64(width)
            place += width
        width >>= 1
    return place


@compiled
def _highest(word: np.uint64) -> int:
    """The place of the highest bit."""
    place, width = 0, 32
    while width:
        if word >> np.uint64(width):
            word >>= np.uint64(width)
            place += width
        width >>= 1
    return place


@compiled
def first_from(tree: BitTree, number: int) -> int:
    """The lowest member that is at least `number`; -1: none."""
    level, above = 0, number
    while level < len(tree.levels):
        index = tree.levels[level] + (above >> _SHIFT)
        end = tree.levels[level + 1] if level + 1 < len(tree.levels) else len(tree.words)
        if index >= end:
            return -1
        word = tree.words[index] & (_ALL << np.uint64(above & (_WORD - 1)))
        if word:
            above = (above >> _SHIFT << _SHIFT) + _lowest(word)
            while level:
                level -= 1
                above = (above << _SHIFT) + _lowest(tree.words[tree.levels[level] + above])
            return above
        above = (above >> _SHIFT) + 1
        level += 1
    return -1


@compiled
def last_until(tree: BitTree, number: int) -> int:
    """The highest member that is at most `number`; -1: none."""
    level, above = 0, number
    while level < len(tree.levels) and above >= 0:
        word = tree.words[tree.levels[level] + (above >> _SHIFT)]
        word &= _ALL >> np.uint64(_WORD - 1 - (above & (_WORD - 1)))
        if word:
            above = (above >> _SHIFT << _SHIFT) + _highest(word)
            while level:
                level -= 1
                above = (above << _SHIFT) + _highest(tree.words[tree.levels[level] + above])
            return above
        above = (above >> _SHIFT) - 1
        level += 1
    return -1
