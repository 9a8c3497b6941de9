# SPDX-License-Identifier: GPL-2.0-only
"""A Python program in a process of its own, which a test lets go on line by line."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("script",)


@contextmanager
def script(code: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run code up to the line `ready` that it prints, and kill it at the end of the block."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()
