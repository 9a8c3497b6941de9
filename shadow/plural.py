# SPDX-License-Identifier: GPL-2.0-only
"""Singular and plural in sentences: 1 process, 2 processes."""

__all__ = ("are", "counted")


def counted(number: int, noun: str) -> str:
    """A number and a noun: 1 process, 2 processes."""
    if number != 1:
        noun += "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}"


def are(number: int, noun: str) -> str:
    """A number, a noun and a verb: 1 process is, 2 processes are."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
