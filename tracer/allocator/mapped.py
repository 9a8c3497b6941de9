# SPDX-License-Identifier: GPL-2.0-only
"""The images that a process has mapped, and the paths that open them.

/proc/PID/map_files opens exactly the mapped file, even if it is deleted or in another
container. Without the right to use it, the file is opened under the root of the process, and
accepted only if it has the same inode.
"""

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.page_size import PAGE
from tracer.procfs import DELETED, parse_maps

__all__ = ("Mapped", "mapped_images")


@dataclass(frozen=True)
class Mapped:
    """A file with executable mappings.

    Attributes:
        name: its path as the process sees it, without " (deleted)".
        path: the path to open.
        identity: device and inode, which identify the file.
        spans: (start, end, file offset) of all its mappings, ascending, bytes.
        deleted: whether its name is removed.
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
        """The load bias of the image; None: it cannot be computed.

        Args:
            loaded: (file offset, address) of the image's loaded segments.
        """
        for start, _, offset in self.spans:
            for file_offset, address in loaded:
                if file_offset & -PAGE == offset:
                    return start - (address & -PAGE)
        return None


def _openable(pid: int, name: str, span: tuple[int, int, int], identity: tuple[int, int]) -> str:
    """A path that opens exactly this file, or else the most likely path."""
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
    """The files with executable mappings: the executable first, then by address.

    Raises:
        OSError: the process has ended, or its maps may not be read.
    """
    spans: dict[tuple[str, tuple[int, int]], list[tuple[int, int, int]]] = {}
    executable = set()
    for mapping in parse_maps(Path(f"/proc/{pid}/maps").read_text(errors="replace")):
        if not mapping.name.startswith("/"):
            continue
        key = mapping.name, (os.makedev(*mapping.device), mapping.inode)
        spans.setdefault(key, []).append((mapping.start, mapping.end, mapping.offset))
        if mapping.prot & mmap.PROT_EXEC:
            executable.add(key)
    try:
        exe = str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        exe = ""
    found = [
        Mapped(
            name=name.removesuffix(DELETED),
            path=_openable(pid, name, where[0], identity),
            identity=identity,
            spans=tuple(where),
            deleted=name.endswith(DELETED),
        )
        for (name, identity), where in spans.items()
        if (name, identity) in executable
    ]
    return sorted(found, key=lambda image: image.name != exe.removesuffix(DELETED))
