# SPDX-License-Identifier: GPL-2.0-only
"""The images that a process has mapped, and how each is opened.

A file is opened through /proc/PID/map_files, which is the very file that is
mapped, deleted or in another container or not. Without the right to that, it is
looked for under the process's root, and taken only if it is the same inode.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ("Mapped", "mapped_images")

_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)"
)
_DELETED = " (deleted)"


@dataclass(frozen=True)
class Mapped:
    """A file with executable mappings.

    Attributes:
        name: its path as the process has it, without " (deleted)".
        path: what to open.
        identity: device, inode: the same file has the same.
        spans: (start, end, file offset) of all its mappings, ascending, bytes.
        deleted: whether its name is gone.
    """

    name: str
    path: str
    identity: tuple[int, int]
    spans: tuple[tuple[int, int, int], ...]
    deleted: bool

    def holds(self, address: int) -> bool:
        """Whether an address of the process lies in this file's mappings."""
        return any(start <= address < end for start, end, _ in self.spans)

    def bias(self, loaded: Sequence[tuple[int, int]]) -> int | None:
        """What is added to addresses of the image, or None if that cannot be told.

        Args:
            loaded: (file offset, address) of the image's loaded segments.
        """
        for start, _, offset in self.spans:
            for file_offset, address in loaded:
                if file_offset & ~0xFFF == offset:
                    return start - (address & ~0xFFF)
        return None


def _openable(pid: int, name: str, span: tuple[int, int, int], identity: tuple[int, int]) -> str:
    """A path under which this very file can be read, or the best there is."""
    exact = f"/proc/{pid}/map_files/{span[0]:x}-{span[1]:x}"
    for path in (exact, f"/proc/{pid}/exe", f"/proc/{pid}/root{name}"):
        try:
            status = Path(path).stat()
        except OSError:
            continue
        # Overlay file systems show another device in maps than stat does.
        if status.st_ino == identity[1] and os.access(path, os.R_OK):
            return path
    return exact


def mapped_images(pid: int) -> list[Mapped]:
    """The files that a process executes code of: the executable first, then by address.

    Raises:
        OSError: the process has ended, or its maps may not be read.
    """
    spans: dict[tuple[str, tuple[int, int]], list[tuple[int, int, int]]] = {}
    executable = set()
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        device = os.makedev(int(match[5], 16), int(match[6], 16))
        key = match[8], (device, int(match[7]))
        spans.setdefault(key, []).append((int(match[1], 16), int(match[2], 16), int(match[4], 16)))
        if match[3][2] == "x":
            executable.add(key)
    try:
        exe = str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        exe = ""
    found = [
        Mapped(
            name=name.removesuffix(_DELETED),
            path=_openable(pid, name, where[0], identity),
            identity=identity,
            spans=tuple(where),
            deleted=name.endswith(_DELETED),
        )
        for (name, identity), where in spans.items()
        if (name, identity) in executable
    ]
    return sorted(found, key=lambda image: image.name != exe.removesuffix(_DELETED))
