# SPDX-License-Identifier: GPL-2.0-only
"""The executable mappings of a process, and the files to open for them.

The files belong to the target and may be anything, so only regular files with the inode of the
mapping are opened.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import PROT_EXEC
from pathlib import Path

from tracer.procfs import DELETED, MapsLine, parse_maps, read_living

__all__ = ("CodeMap", "Module", "code_map", "open_module", "open_root", "own_vdso")

_VDSO = "[vdso]"
_MOST_FORMER = 256
_FAR = 1 << 30
"""Mappings of one file that lie this far apart are different images of it."""


@dataclass(frozen=True)
class Module:
    """An image of a file, or other executable memory.

    Attributes:
        name: its path, or the name of the mapping; "" for anonymous memory.
        start: first address.
        end: address after the last one.
        span: the first mapping, as in /proc/PID/map_files.
        inode: of the file; 0: it is not a file.
    """

    name: str
    start: int
    end: int
    span: str
    inode: int

    @property
    def has_image(self) -> bool:
        """Whether it is an ELF image, as far as its mapping shows."""
        return self.inode != 0 or self.name == _VDSO

    @property
    def short_name(self) -> str:
        """The file name."""
        return self.name.removesuffix(DELETED).rpartition("/")[2]


class CodeMap:
    """The modules of a process at one moment.

    Args:
        modules: ascending and disjoint.
    """

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self._starts = [module.start for module in modules]

    def at(self, address: int) -> Module | None:
        """The module at an address; None: nothing executable was mapped there."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self.modules[index].end:
            return None
        return self.modules[index]

    def with_former(self, former: "CodeMap") -> "CodeMap":
        """These modules, and those former ones whose place is free now."""
        kept = [each for each in former.modules if not self._overlaps(each)]
        everything = sorted([*kept[-_MOST_FORMER:], *self.modules], key=lambda each: each.start)
        return CodeMap(everything)

    def _overlaps(self, module: Module) -> bool:
        index = bisect_right(self._starts, module.start) - 1
        before = index >= 0 and self.modules[index].end > module.start
        after = index + 1 < len(self.modules) and self.modules[index + 1].start < module.end
        return before or after


def _groups(lines: Iterator[MapsLine]) -> Iterator[list[MapsLine]]:
    """The mappings of each image, in order."""
    group: list[MapsLine] = []
    for line in lines:
        last = group[-1] if group else None
        same = (
            last is not None
            and line.inode != 0
            and (line.inode, line.device, line.name) == (last.inode, last.device, last.name)
            and line.offset >= last.offset
            and line.start - last.end < _FAR
        )
        if group and not same:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def code_map(pid: int) -> CodeMap:
    """The executable mappings of a process now.

    Raises:
        OSError: it has ended, or its maps may not be read.
    """
    text = read_living(pid, lambda task: (task / "maps").read_text(errors="replace"))
    return CodeMap(
        [
            Module(
                name=group[0].name,
                start=group[0].start,
                end=group[-1].end,
                span=f"{group[0].start:x}-{group[0].end:x}",
                inode=group[0].inode,
            )
            for group in _groups(parse_maps(text))
            if any(line.prot & PROT_EXEC for line in group)
        ]
    )


def open_root(pid: int) -> int | None:
    """A file descriptor of the root of a process, which outlives it; None: it has ended."""
    try:
        return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def open_module(pid: int, root: int | None, module: Module) -> int | None:
    """A file descriptor of exactly the file of this module; None: it cannot be opened.

    Args:
        pid: the process.
        root: see `open_root`.
        module: the module.
    """
    paths = [f"/proc/{pid}/map_files/{module.span}", f"/proc/{pid}/exe"]
    if root is not None:
        paths.append(f"/proc/self/fd/{root}{module.name}")
    for path in paths:
        try:
            if not _is_file(Path(path).stat(), module):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError):
            continue
        if _is_file(os.fstat(fd), module):
            return fd
        os.close(fd)
    return None


def _is_file(status: os.stat_result, module: Module) -> bool:
    """Whether this is the module's file; overlayfs shows another device in maps."""
    return stat.S_ISREG(status.st_mode) and status.st_ino == module.inode


def own_vdso() -> int | None:
    """A file descriptor with a copy of the vDSO, which is the same in every 64-bit process."""
    for line in parse_maps(Path("/proc/self/maps").read_text()):
        if line.name == _VDSO:
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                image = os.pread(memory.fileno(), line.end - line.start, line.start)
            copy = os.memfd_create("vdso", os.MFD_CLOEXEC)
            os.write(copy, image)
            return copy
    return None
