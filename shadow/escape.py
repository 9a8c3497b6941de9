# SPDX-License-Identifier: GPL-2.0-only
"""Escaping of untrusted text for terminals and documents.

Names, paths, settings and notes come from processes, traces and arguments. They may
contain characters that move the cursor, hide text or end a line, and bytes that are not
valid Unicode. Reporters receive such text escaped (`reporter`). As a second line of
defence, `tracer.terminal` escapes the whole output of a command.
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
"""Characters that Python calls printable but that are invisible (Default_Ignorable_Code_Point)."""


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not valid UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return ascii(character)[1:-1]


def _valid(text: str) -> str:
    return _SURROGATES.sub(lambda match: _escaped(match[0]), text)


def printable(text: str) -> str:
    """Return text as one visible line; escape what controls, hides or reorders characters."""
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(
        character
        if character.isprintable() and not _UNSEEN.match(character)
        else _escaped(character)
        for character in text
    )


def _each(data: Any, change: Callable[[str], str]) -> Any:
    """Apply `change` to every string in `data`; return `data` itself if no string changes."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, dict):
        items = [(_each(key, change), _each(value, change)) for key, value in data.items()]
        same = all(k is key and v is data[key] for key, (k, v) in zip(data, items, strict=True))
        return data if same else dict(items)
    if isinstance(data, list | tuple):
        if set(map(type, data)) <= {int}:  # addresses and counts, possibly millions
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
    """Make every string in `data` `printable`, including those in dataclasses and containers."""
    return _each(data, printable)  # type: ignore[no-any-return]


def valid(data: _R) -> _R:
    """Make every string in `data` valid Unicode, as JSON, Parquet and metrics require."""
    return _each(data, _valid)  # type: ignore[no-any-return]


def reporter(report: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function that shows data, so that all strings in its arguments are `printable`."""

    @wraps(report)
    def shown(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return report(*plain(args), **plain(kwargs))

    return shown
