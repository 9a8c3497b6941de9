# SPDX-License-Identifier: GPL-2.0-only
"""Text from outside, made fit for terminals and documents.

Names, paths, settings and notes come from processes, traces and arguments. Any of them may
hold what moves a cursor, hides text, ends a line, or is no Unicode at all. Reporters see
such text escaped (`reporter`); what a command prints is escaped once more as a whole
(`tracer.terminal`), so a text that was forgotten does no harm.
"""

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ("plain", "printable", "reporter", "valid")

_P = ParamSpec("_P")
_R = TypeVar("_R")
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Characters that count as printable and show nothing (Default_Ignorable_Code_Point)."""


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return ascii(character)[1:-1]


def _valid(text: str) -> str:
    return _SURROGATES.sub(lambda match: _escaped(match[0]), text)


def printable(text: str) -> str:
    """One line that shows every character: what controls, hides or turns text is escaped."""
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(
        character
        if character.isprintable() and not _UNSEEN.match(character)
        else _escaped(character)
        for character in text
    )


def _each(data: Any, change: Callable[[str], str]) -> Any:
    """The same data with all its texts changed; the very same object where none changes."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, dict):
        items = [(_each(key, change), _each(value, change)) for key, value in data.items()]
        same = all(k is key and v is data[key] for key, (k, v) in zip(data, items, strict=True))
        return data if same else dict(items)
    if isinstance(data, list | tuple):
        if set(map(type, data)) <= {int}:  # addresses and counts, up to millions of them
            return data
        parts = [_each(part, change) for part in data]
        if all(part is old for part, old in zip(parts, data, strict=True)):
            return data
        return type(data)(*parts) if hasattr(data, "_fields") else type(data)(parts)
    if is_dataclass(data) and not isinstance(data, type):
        changed = {}
        for field in fields(data):
            value = getattr(data, field.name)
            new = _each(value, change)
            if new is not value:
                changed[field.name] = new
        return replace(data, **changed) if changed else data
    return data


def plain(data: _R) -> _R:
    """Data with every text in it `printable`; dataclasses and containers are gone through."""
    return _each(data, printable)  # type: ignore[no-any-return]


def valid(data: _R) -> _R:
    """Data with every text in it valid Unicode, as JSON, Parquet and metrics need it."""
    return _each(data, _valid)  # type: ignore[no-any-return]


def reporter(report: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make of a function that shows data one that sees all texts of its arguments printable."""

    @wraps(report)
    def shown(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return report(*plain(args), **plain(kwargs))

    return shown
