# SPDX-License-Identifier: GPL-2.0-only
"""Build the remedy, and the program that tests it, into a folder."""

import subprocess
from pathlib import Path

__all__ = ("built_patterns", "built_remedy")

_SOURCES = Path(__file__).parent
_PATTERNS = _SOURCES.parent / "workloads" / "patterns.c"


def built_remedy(folder: Path, sources: Path = _SOURCES) -> str:
    """The path of the shared object, for LD_PRELOAD."""
    made = folder / "libptescope-remedy.so"
    command = ["make", "-s", "-C", str(sources), f"OUT={folder}", str(made)]
    subprocess.run([*command, "CFLAGS=-O2 -Wall -Wextra"], check=True)
    return str(made)


def built_patterns(folder: Path) -> str:
    """The path of the program tools/workloads/patterns.c."""
    made = folder / "patterns"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", str(made), str(_PATTERNS)]
    subprocess.run(command, check=True)
    return str(made)
