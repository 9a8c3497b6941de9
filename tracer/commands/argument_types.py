# SPDX-License-Identifier: GPL-2.0-only
"""Parsers of option values; each error message states what the option accepts."""

import math
import re
from argparse import ArgumentTypeError

__all__ = ("address", "natural", "percent", "pid", "ring_size", "seconds", "size", "whole")

_SHORTEST, _LONGEST = 0.001, 1e9
_LARGEST_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
_LARGEST_COUNT = 10**9
_LARGEST_PERCENT = 1e6
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LARGEST_SIZE = 1 << 50
_RING_KIB = (4, 1 << 20)
_LARGEST_PORT = 65535


def _wrong(wanted: str, text: str) -> ArgumentTypeError:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return ArgumentTypeError(f"takes {wanted}, not {shown!a}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _integer(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1


def seconds(text: str) -> float:
    """A duration."""
    value = _number(text)
    if not _SHORTEST <= value <= _LONGEST:
        raise _wrong(f"seconds from {_SHORTEST:g} to {_LONGEST:,.0f}", text)
    return value


def percent(text: str) -> float:
    """A percentage above 0."""
    value = _number(text)
    if not 0 < value <= _LARGEST_PERCENT:
        raise _wrong("a percentage above 0", text)
    return value


def pid(text: str) -> int:
    """The number of a process."""
    value = _integer(text)
    # One above the largest parses too, so that the error is "no such process", not a usage error.
    if not 1 <= value <= _LARGEST_PID + 1:
        raise _wrong(f"the number of a process, from 1 to {_LARGEST_PID:,}", text)
    return value


def natural(text: str) -> int:
    """A whole number of at least 1."""
    value = _integer(text)
    if not 1 <= value <= _LARGEST_COUNT:
        raise _wrong(f"a whole number from 1 to {_LARGEST_COUNT:,}", text)
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    value = _integer(text)
    if not 0 <= value <= _LARGEST_COUNT:
        raise _wrong(f"a whole number from 0 to {_LARGEST_COUNT:,}", text)
    return value


def size(text: str) -> int:
    """A number of bytes, with or without a unit."""
    match = re.fullmatch(r"([0-9]{1,18})([KMG]?)(?:iB|B)?", text, re.IGNORECASE)
    value = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not 0 < value <= _LARGEST_SIZE:
        raise _wrong("a size such as 512M, in bytes or with K, M or G", text)
    return value


def ring_size(text: str) -> int:
    """The size of a ring in bytes, from KiB: a power of two of at least one page."""
    kib = _integer(text)
    least, most = _RING_KIB
    if not least <= kib <= most or kib & (kib - 1):
        raise _wrong(f"a power of two in KiB, from {least} to {most:,}", text)
    return kib << 10


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, with an IPv6 host in brackets."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]*):([0-9]{1,5})", text)
    if not match or int(match[2]) > _LARGEST_PORT:
        raise _wrong("HOST:PORT, with an IPv6 host in brackets", text)
    return match[1].strip("[]"), int(match[2])
