# SPDX-License-Identifier: GPL-2.0-only
"""Parses arguments and results: decimal and hexadecimal numbers, and names."""

import errno
import re

from shadow.perf_import.said import OddLineError

__all__ = ("error_number", "nanoseconds", "number", "split_result")

_NUMBER = re.compile(r"(?a)-?(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})")
_COMMENT = re.compile(r"(?a)/\*.*?\*/")
_NAMES = {
    "PROT_": {"NONE": 0, "READ": 1, "WRITE": 2, "EXEC": 4, "SEM": 8, "GROWSDOWN": 1 << 24},
    "MAP_": {
        "FILE": 0, "SHARED": 1, "PRIVATE": 2, "SHARED_VALIDATE": 3, "DROPPABLE": 8, "FIXED": 0x10,
        "ANONYMOUS": 0x20, "ANON": 0x20, "32BIT": 0x40, "GROWSDOWN": 0x100, "DENYWRITE": 0x800,
        "EXECUTABLE": 0x1000, "LOCKED": 0x2000, "NORESERVE": 0x4000, "POPULATE": 0x8000,
        "NONBLOCK": 0x10000, "STACK": 0x20000, "HUGETLB": 0x40000, "SYNC": 0x80000,
        "FIXED_NOREPLACE": 0x100000, "HUGE_2MB": 21 << 26, "HUGE_1GB": 30 << 26,
    },
    "MADV_": {
        "NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "DONTNEED": 4, "FREE": 8,
        "REMOVE": 9, "DONTFORK": 10, "DOFORK": 11, "MERGEABLE": 12, "UNMERGEABLE": 13,
        "HUGEPAGE": 14, "NOHUGEPAGE": 15, "DONTDUMP": 16, "DODUMP": 17, "WIPEONFORK": 18,
        "KEEPONFORK": 19, "COLD": 20, "PAGEOUT": 21, "POPULATE_READ": 22, "POPULATE_WRITE": 23,
        "DONTNEED_LOCKED": 24, "COLLAPSE": 25, "HWPOISON": 100, "SOFT_OFFLINE": 101,
        "GUARD_INSTALL": 102, "GUARD_REMOVE": 103,
    },
    "MREMAP_": {"MAYMOVE": 1, "FIXED": 2, "DONTUNMAP": 4},
    "MCL_": {"CURRENT": 1, "FUTURE": 2, "ONFAULT": 4},
    "MLOCK_": {"ONFAULT": 1},
    "CLONE_": {"VM": 0x100, "VFORK": 0x4000, "THREAD": 0x10000},
}  # fmt: skip
_ZERO = {"NULL", "(nil)"}


def _one(text: str, prefix: str) -> int:
    if text in _ZERO:
        return 0
    if _NUMBER.fullmatch(text):
        # Some tools print octal numbers with a leading 0, but none of these arguments is octal.
        return int(text, 16 if "x" in text else 10)
    known = _NAMES.get(prefix, {}).get(text.removeprefix(prefix))
    if known is None and prefix == "CLONE_" and re.fullmatch(r"[A-Z_0-9]+", text):
        return 0  # only these three flags of clone matter
    if known is None:
        raise OddLineError(f"an argument that is not a number: {text[:40]}")
    return known


def number(text: str, prefix: str = "") -> int:
    """Parse a number, or flags by name with or without their prefix.

    Raises:
        OddLineError: the text is neither.
    """
    value = 0
    for part in _COMMENT.sub("", text).strip().split("|"):
        value |= _one(part.strip(), prefix)
    return value


def nanoseconds(seconds: str) -> int:
    """Convert decimal seconds to ns; drop digits beyond the ninth.

    Raises:
        OddLineError: the text is not a decimal number, or too long.
    """
    match = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,30}))?", seconds)
    if match is None:
        raise OddLineError("an invalid time")
    return int(match[1]) * 10**9 + int((match[2] or "")[:9].ljust(9, "0"))


def error_number(name: str) -> int:
    """The number of an error such as ENOMEM; an unknown one counts as EPERM: no effect."""
    value = getattr(errno, name, errno.EPERM)
    return int(value)


def split_result(text: str) -> tuple[str, str]:
    """Split `...ARGUMENTS) = RESULT` at the last ` = ` into the arguments and the result.

    Raises:
        OddLineError: the text has no result.
    """
    before, equals, after = text.rpartition(" = ")
    arguments = before.rstrip()
    if not equals or not arguments.endswith(")"):
        raise OddLineError("a call without a result")
    return arguments[:-1], after
