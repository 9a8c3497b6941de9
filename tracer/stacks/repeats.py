# SPDX-License-Identifier: GPL-2.0-only
"""Recognises stacks that were unwound before, by the words that hold their return addresses.

The unwinder finds the frames of a stack by the rules of each PC. If a sample has the same PC,
and the same return address at each place where an earlier stack had one, the rules lead through
the same places again. Only the frame pointer can lead elsewhere, so its place counts too.
"""

from collections.abc import Sequence

__all__ = ("Repeats", "Start")

Start = tuple[int, int, int]
"""PC; frame pointer less stack pointer, or -1 if it does not point into the stack; size."""
_MOST_NODES = 1 << 18


class _Node:
    """A prefix of known stacks: by place and return address, what follows."""

    __slots__ = ("next", "stack")

    def __init__(self) -> None:
        self.next: dict[int, dict[int, _Node]] = {}
        self.stack: int | None = None


class Repeats:
    """The stacks of one process with one set of mappings."""

    def __init__(self) -> None:
        self._roots: dict[Start, _Node] = {}
        self._nodes = 0

    def find(self, start: Start, words: Sequence[int], count: int) -> int | None:
        """The number of the stack with these words; None: it is not known.

        Args:
            start: where it starts.
            words: the words of the stack.
            count: the number of words that are valid.
        """
        node = self._roots.get(start)
        return None if node is None else self._follow(node, words, count)

    def _follow(self, node: _Node, words: Sequence[int], count: int) -> int | None:
        while True:
            known = None
            for place, after in node.next.items():
                if place < count and (known := after.get(words[place])) is not None:
                    break
            if known is None:
                return node.stack
            node = known

    def add(self, start: Start, places: list[tuple[int, int]], stack: int) -> None:
        """Remember a stack.

        Args:
            start: where it starts.
            places: the index of each word with a return address, and the word.
            stack: its number.
        """
        if self._nodes > _MOST_NODES:
            self._roots.clear()
            self._nodes = 0
        node = self._roots.setdefault(start, _Node())
        for place, word in places:
            node = node.next.setdefault(place, {}).setdefault(word, _Node())
            self._nodes += 1
        node.stack = stack
