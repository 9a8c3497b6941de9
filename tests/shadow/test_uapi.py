# SPDX-License-Identifier: GPL-2.0-only
"""The constants equal those in the headers of linux-libc-dev, if they are installed."""

import platform
import re
from pathlib import Path

import pytest

from shadow import uapi

_HEADERS = [
    Path("/usr/include", name)
    for name in (
        *("asm-generic/mman-common.h", "asm-generic/mman.h", "linux/mman.h", "linux/sched.h"),
        "x86_64-linux-gnu/asm/mman.h",
    )
]
_NEWER = {"MADV_GUARD_INSTALL", "MADV_GUARD_REMOVE", "MAP_DROPPABLE"}
"""Constants that the headers of Linux 6.1 lack."""


def _defined() -> dict[str, int]:
    text = "\n".join(path.read_text() for path in _HEADERS)
    found = re.findall(r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+|[0-9]+)\b", text, re.MULTILINE)
    return {name: int(value, 16 if "x" in value else 10) for name, value in found}


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(path.exists() for path in _HEADERS),
    reason="the headers of linux-libc-dev for x86-64 are missing",
)
def test_the_constants_are_those_of_the_headers() -> None:
    defined = _defined()
    plain = {name: value for name in uapi.__all__ if isinstance(value := getattr(uapi, name), int)}
    absent = _NEWER | {"MAP_HUGE_2MB", "MAP_HUGE_1GB"}
    for name, value in plain.items():
        if name in defined or name not in absent:
            assert defined[name] == value, name
