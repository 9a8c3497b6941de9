# SPDX-License-Identifier: GPL-2.0-only
"""Hostile text, and data with such text in every field."""

import unicodedata
from dataclasses import fields, is_dataclass, replace
from typing import Any

__all__ = ("HOSTILE", "is_harmless", "poisoned")

HOSTILE = (
    "\x1b]0;own\x07\x9b31m[red][/nope]\n\r\t\x7f\u202e\u2066\u200b\ufeff\u2028\u3164\udcff\ud800"
)
"""Escapes (C0 and C1), markup, line ends, bidi, invisible characters, invalid Unicode."""

_KEPT = {"policy", "seed", "method", "engine", "arch"}
"""Fields with a fixed set of words; the reader refuses a trace with other words."""


def poisoned(data: Any) -> Any:
    """The same data, with `HOSTILE` at the end of every text that can come from outside."""
    if isinstance(data, str):
        return data + HOSTILE
    if isinstance(data, dict):
        return {key: poisoned(value) for key, value in data.items()}
    if isinstance(data, list | tuple) and not hasattr(data, "_fields"):
        return type(data)(poisoned(part) for part in data)
    if is_dataclass(data) and not isinstance(data, type):
        parts = {f.name: getattr(data, f.name) for f in fields(data) if f.name not in _KEPT}
        return replace(data, **{name: poisoned(part) for name, part in parts.items()})
    return data


def is_harmless(text: str, *, lines: bool = True) -> bool:
    """Whether every character is visible, except line ends if `lines` is true."""
    return all(
        (lines and character == "\n")
        or (unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
            and character != "\u3164")
        for character in text
    )  # fmt: skip
