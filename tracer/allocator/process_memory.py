# SPDX-License-Identifier: GPL-2.0-only
"""Read the memory, environment and threads of a running process without stopping it."""

import os
import struct
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

__all__ = ("View",)

_POINTER = struct.Struct("<Q")
_MOST_VARIABLES = 4096


def _by_name(pairs: Iterable[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


class View:
    """A process as /proc shows it; unreadable values are None or empty.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.environ_at: list[int] = []
        """Addresses of the C library's `environ`, if known."""

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment at the start of the process.

        A program that changes its title may overwrite it. Then this returns the current
        environment, which the allocator saw too, unless the program has changed it since.

        Raises:
            OSError: the environment may not be read.
        """
        text = Path(f"/proc/{self.pid}/environ").read_bytes().decode(errors="replace")
        pairs = text.rstrip("\0").split("\0") if text else []
        if all("=" in pair for pair in pairs):
            return _by_name(pairs)
        return _by_name(self._current_environment()) | _by_name(pairs)

    def _current_environment(self) -> Iterator[str]:
        """The current strings, found through the C library's pointers."""
        for variable in self.environ_at:
            (array,) = _POINTER.unpack(self.read(variable, 8) or bytes(8))
            for number in range(_MOST_VARIABLES if array else 0):
                (pointer,) = _POINTER.unpack(self.read(array + 8 * number, 8) or bytes(8))
                text = self.read_text(pointer) if pointer else None
                if text is None:
                    break
                yield text

    @cached_property
    def arguments(self) -> list[str]:
        """The command line."""
        text = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace")
        return text.split("\0")

    def link(self, path: str) -> str | None:
        """Where a symbolic link points, seen from the process's root."""
        try:
            return str(Path(f"/proc/{self.pid}/root{path}").readlink())
        except OSError:
            return None

    def threads(self) -> set[str]:
        """The names of the threads."""
        names = set()
        for path in Path(f"/proc/{self.pid}/task").glob("*/comm"):
            try:
                names.add(path.read_text(errors="replace").rstrip("\n"))
            except OSError:
                continue  # the thread has just ended
        return names

    def read(self, address: int, size: int) -> bytes | None:
        """Read memory; None: it may not be read, or nothing is mapped."""
        try:
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                found = os.pread(memory.fileno(), size, address)
        except (OSError, OverflowError, ValueError):
            return None
        return found if len(found) == size else None

    def read_text(self, address: int, longest: int = 1024) -> str | None:
        """Read a C string; None: there is none."""
        for size in (longest, 4096 - address % 4096):  # the string may end just before a hole
            found = self.read(address, min(size, longest))
            if found is not None and b"\0" in found:
                return found.split(b"\0", 1)[0].decode(errors="replace")
        return None
