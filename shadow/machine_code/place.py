# SPDX-License-Identifier: GPL-2.0-only
"""Where the machine code of this version is kept, and under which name.

The name of the folder is a digest of all compiled modules, of the modules with constants that
they use, and of the compiler here: an edit of any of them makes other code, so stale code is
never used.
"""

import hashlib
import platform
from functools import cache
from pathlib import Path

from shadow.cache_folder import cache_folder

__all__ = ("MACHINE", "SHIPPED", "SOURCES", "cache_place", "digest", "image_name", "processor")

_SHADOW = Path(__file__).parents[1]
_CONSTANTS = ("events.py", "geometry.py", "policy.py", "memory_limit.py", "uapi.py")
SOURCES = (
    *sorted((_SHADOW / "machine_code").glob("*.py")),
    *sorted((_SHADOW / "table").rglob("*.py")),
    *sorted((_SHADOW / "whatif").rglob("*.py")),
    *(_SHADOW / name for name in _CONSTANTS),
)
"""All compiled modules, the modules with constants that they use, and the compiler."""

SHIPPED = _SHADOW / "machine_code" / "images"
"""The machine code that a wheel has, in a folder as in the cache."""

MACHINE = platform.machine()
"""The name that uname has for this machine."""

_CPUINFO = Path("/proc/cpuinfo")
_SECOND_LEVEL = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
"""The flags of x86-64-v2 in /proc/cpuinfo (the x86-64 psABI, section Micro-Architecture Levels)."""


@cache
def digest() -> str:
    """16 hexadecimal digits that identify the sources."""
    found = hashlib.sha256()
    for source in SOURCES:
        found.update(source.read_bytes())
    return found.hexdigest()[:16]


@cache
def processor(machine: str = MACHINE) -> str:
    """LLVM's name of the processors that the code is made for.

    It is a level, not the processor of this machine: with the instructions of newer levels the
    loop is no faster, and one file serves a fleet.

    Args:
        machine: the name that uname has for them.
    """
    if machine != "x86_64":
        return "generic"
    flags = next(line for line in _CPUINFO.read_text().splitlines() if line.startswith("flags"))
    return "x86-64-v2" if set(flags.split()) >= _SECOND_LEVEL else "x86-64"


def image_name(entries: int, machine: str = MACHINE) -> str:
    """The name of the file for page tables with so many entries, on a machine."""
    return f"{machine}-{processor(machine)}-{entries}.image"


@cache
def cache_place() -> tuple[Path | None, list[str]]:
    """The folder of the machine code, and why each better one was refused; see `cache_folder`."""
    return cache_folder(digest())
