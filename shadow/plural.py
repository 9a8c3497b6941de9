# SPDX-License-Identifier: GPL-2.0-only
"""Numbers of things in sentences: 1 process, 2 processes."""

__all__ = ("are", "counted")


def counted(number: int, noun: str) -> str:
    """A number of things: 1 process, 2 processes."""
    if number != 1:
        noun += "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}"


def are(number: int, noun: str) -> str:
    """The beginning of a sentence on them: 1 process is, 2 processes are."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
