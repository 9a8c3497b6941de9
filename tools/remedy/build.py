# SPDX-License-Identifier: GPL-2.0-only
"""Build the remedy in both forms, and the program that tests it, into a folder."""

import subprocess
from pathlib import Path

__all__ = ("built_archive", "built_patterns", "built_remedy")

_SOURCES = Path(__file__).parent
_PATTERNS = _SOURCES.parent / "workloads" / "patterns.c"


def built_remedy(folder: Path, sources: Path = _SOURCES) -> str:
    """The path of the shared object, for LD_PRELOAD."""
    return _made(folder / "libptescope-remedy.so", sources)


def built_archive(folder: Path, prefix: str) -> str:
    """The path of the archive, to link with a jemalloc under this prefix."""
    return _made(folder / "libptescope-remedy.a", _SOURCES, f"PREFIX={prefix}")


def _made(target: Path, sources: Path, *variables: str) -> str:
    command = ["make", "-s", "-C", str(sources), f"OUT={target.parent}", *variables, str(target)]
    subprocess.run(command, check=True)
    return str(target)


def built_patterns(folder: Path) -> str:
    """The path of the program tools/workloads/patterns.c."""
    made = folder / "patterns"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-pthread", "-o", str(made), str(_PATTERNS)]
    subprocess.run(command, check=True)
    return str(made)
