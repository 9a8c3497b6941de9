# SPDX-License-Identifier: GPL-2.0-only
"""pprof's profile.proto (github.com/google/pprof), encoded by hand.

It needs six messages and two wire types, so a protobuf library would be a dependency for
40 lines.
"""

from collections.abc import Iterable, Mapping

from shadow.escape import printable
from shadow.stacks import Frame

__all__ = ("Pprof",)

_VARINT, _BYTES = 0, 2


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _numbers(field: int, values: Iterable[int]) -> bytes:
    return _bytes(field, b"".join(map(_varint, values)))


class Pprof:
    """A profile.

    Args:
        types: name and unit of each value of a sample.

    Attributes:
        default: the name of the value that is shown first.
    """

    def __init__(self, types: list[tuple[str, str]]) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._types = [
            _number(1, self._string(name)) + _number(2, self._string(unit)) for name, unit in types
        ]
        self._samples: list[bytes] = []
        self._mappings: dict[str, int] = {}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Frame, int] = {}
        self.default = types[0][0]

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def add(self, frames: list[Frame], values: list[int], labels: Mapping[str, str]) -> None:
        """Add a sample.

        Args:
            frames: innermost first.
            values: one for each type.
            labels: text by name.
        """
        texts = [
            _number(1, self._string(name)) + _number(2, self._string(printable(text)))
            for name, text in labels.items()
        ]
        self._samples.append(
            _numbers(1, map(self._location, frames))
            + _numbers(2, values)
            + b"".join(_bytes(3, text) for text in texts)
        )

    def _location(self, frame: Frame) -> int:
        module, name = printable(frame.module or ""), printable(str(frame))
        if module:
            self._mappings.setdefault(module, len(self._mappings) + 1)
        self._functions.setdefault((name, module), len(self._functions) + 1)
        return self._locations.setdefault(frame, len(self._locations) + 1)

    def encoded(self) -> bytes:
        """The message Profile."""
        mappings = [
            _number(1, number) + _number(5, self._string(name)) + _number(7, 1)
            for name, number in self._mappings.items()
        ]
        functions = [
            _number(1, number)
            + _number(2, self._string(name))
            + _number(3, self._string(name))
            + _number(4, self._string(module))
            for (name, module), number in self._functions.items()
        ]
        locations = [self._encoded(frame, number) for frame, number in self._locations.items()]
        default = self._string(self.default)
        parts = (
            (1, self._types),
            (2, self._samples),
            (3, mappings),
            (4, locations),
            (5, functions),
            (6, [text.encode(errors="replace") for text in self._strings]),
        )
        messages = b"".join(_bytes(field, data) for field, all_of in parts for data in all_of)
        return messages + _number(14, default)

    def _encoded(self, frame: Frame, number: int) -> bytes:
        module = printable(frame.module or "")
        function = self._functions[printable(str(frame)), module]
        return (
            _number(1, number)
            + _number(2, self._mappings.get(module, 0))
            + _number(3, frame.offset)
            + _bytes(4, _number(1, function))
        )
