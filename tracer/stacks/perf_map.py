# SPDX-License-Identifier: GPL-2.0-only
"""/tmp/perf-PID.map: the names of generated code, as JIT compilers write them for perf.

Anybody can write such a file, so it must be a regular file of the process's user or of root, and
what is read of it is bounded.
"""

import os
import re
import stat
import time
from bisect import bisect_right
from pathlib import Path

__all__ = ("PerfMap",)

_MOST_BYTES = 64 << 20
_MOST_LINES = 1 << 20
_LINE = re.compile(rb"([0-9a-fA-F]{1,16}) ([0-9a-fA-F]{1,16}) ([^\n]{1,512})")
_AGAIN_SECONDS = 1.0
_AGAIN_SHARE = 20
"""A file that takes long is read again after 20 times as long."""
_NS_PID = re.compile(r"^NSpid:\s+(?:\d+\s+)*(\d+)$", re.MULTILINE)


class PerfMap:
    """The map of one process; it is read again when it has changed.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._starts: list[int] = []
        self._entries: list[tuple[int, str]] = []
        self._read: tuple[int, int, int] | None = None
        self._next = 0.0

    def name(self, address: int) -> str | None:
        """The name of the code at an address; None: the file does not name it."""
        found = self._find(address)
        if found is None and time.monotonic() >= self._next:
            begin = time.monotonic()
            self._refresh()
            now = time.monotonic()
            self._next = now + max(_AGAIN_SECONDS, _AGAIN_SHARE * (now - begin))
            found = self._find(address)
        return found

    def _find(self, address: int) -> str | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._entries[index][0]:
            return None
        return self._entries[index][1]

    def _refresh(self) -> None:
        """Read the file if it has changed."""
        try:
            data = self._new_data()
        except (OSError, ValueError):
            return
        if data is not None:
            self._parse(data)

    def _new_data(self) -> bytes | None:
        """The content of the file; None: unchanged, or not to be trusted.

        Raises:
            OSError, ValueError: the file or the process does not exist.
        """
        folder = Path(f"/proc/{self._pid}")
        number = _NS_PID.search((folder / "status").read_text(errors="replace"))
        path = folder / "root/tmp" / f"perf-{number[1] if number else self._pid}.map"
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(path, flags)
        try:
            status = os.fstat(fd)
            identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            trusted = status.st_uid in (0, folder.stat().st_uid)
            if not stat.S_ISREG(status.st_mode) or not trusted or identity == self._read:
                return None
            self._read = identity
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(_MOST_BYTES)
        finally:
            os.close(fd)

    def _parse(self, data: bytes) -> None:
        """Take the lines that are well formed; later ones replace earlier ones."""
        found: dict[int, tuple[int, str]] = {}
        for line in data.split(b"\n", _MOST_LINES)[:_MOST_LINES]:
            if match := _LINE.fullmatch(line):
                start, size = int(match[1], 16), int(match[2], 16)
                found.pop(start, None)
                found[start] = (start + size, match[3].decode(errors="replace"))
        self._starts = sorted(found)
        self._entries = [found[start] for start in self._starts]
