# SPDX-License-Identifier: GPL-2.0-only
"""HTTP requests and answers, as plain data."""

from dataclasses import dataclass, field

__all__ = ("PLAIN", "Answer", "Request", "text_answer")

PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """An HTTP request; `headers` are keyed by lower-case names."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", PLAIN),)


def text_answer(status: int, text: str, *more: tuple[str, str]) -> Answer:
    """An answer of one line."""
    return Answer(status, text.encode() + b"\n", (("Content-Type", PLAIN), *more))
