# SPDX-License-Identifier: GPL-2.0-only
"""The texts of /proc/PID: stat, status, maps and smaps (Documentation/filesystems/proc.rst).

If the main thread ends before other threads, the kernel keeps it as a zombie. /proc/PID/stat and
comm still describe it, but it has no address space, so its maps, pagemap, exe and VmPTE are
empty or missing. /proc/PID/task/TID of any running thread shows the address space of the
process; `read_living` reads there.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from tracer.page_size import PAGE_KIB

__all__ = (
    "DELETED",
    "MapsLine",
    "MemoryStatus",
    "cgroup_of",
    "living_task",
    "memory_status",
    "parse_maps",
    "read_living",
    "stat_fields",
    "vm_pte_kib",
)

_Result = TypeVar("_Result")
_TRIES = 8
"""Tries to read a running thread, because the chosen thread may end before the read."""
_SIZE = re.compile(rb"^(VmPTE|VmRSS|VmSwap):\s+(\d+) kB", re.MULTILINE)
DELETED = " (deleted)"
"""The suffix that the kernel appends to the path of a deleted file."""
_MAPS_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([sp]) "
    r"([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)"
)
_IN_THE_KERNEL = 1 << 63


def stat_fields(task: Path) -> list[str]:
    """The fields of a stat file from the third (state) on, numbered from there.

    Raises:
        OSError: the task has ended.
    """
    text = (task / "stat").read_text(errors="replace")
    return text[text.rindex(")") + 2 :].split()


def living_task(pid: int) -> Path:
    """/proc/PID or, if the main thread has ended, /proc/PID/task/TID of a running thread.

    Raises:
        OSError: the process has no running thread.
    """
    main = Path(f"/proc/{pid}")
    if stat_fields(main)[0] not in "ZX":
        return main
    for task in (main / "task").iterdir():
        try:
            if stat_fields(task)[0] not in "ZX":
                return task
        except OSError:
            continue  # it has just ended
    raise ProcessLookupError(f"process {pid} has no running thread")


def read_living(pid: int, read: Callable[[Path], _Result]) -> _Result:
    """Call `read` with the folder of a running thread of the process.

    Args:
        pid: the process.
        read: receives the folder; called again if the thread ends meanwhile, which causes an
            error or an empty result.

    Raises:
        OSError: the process has no running thread, or the file may not be read.
    """
    for _ in range(_TRIES - 1):
        task = living_task(pid)
        try:
            result = read(task)
        except (FileNotFoundError, ProcessLookupError):
            if living_task(pid) == task:
                raise
        else:
            if result or living_task(pid) == task:
                return result
    return read(living_task(pid))


@dataclass(frozen=True)
class MemoryStatus:
    """Sizes that the kernel reports.

    Linux kernel commit af5b0f6a09e4 "mm: consolidate page table accounting" (in v4.15) made
    VmPTE count all levels but the PGD.

    Attributes:
        vm_pte_kib: PTE, PMD and PUD pages, including deposits, in KiB.
        mapped: pages that are resident or swapped out.
    """

    vm_pte_kib: int
    mapped: int


def _parse_status(task: Path) -> MemoryStatus:
    with open(task / "status", "rb", buffering=0) as file:
        text = file.read(1 << 16)
    found = {name: int(kib) for name, kib in _SIZE.findall(text)}
    if b"VmPTE" not in found:
        raise ProcessLookupError(f"{task} has no address space")
    mapped = (found.get(b"VmRSS", 0) + found.get(b"VmSwap", 0)) // PAGE_KIB
    return MemoryStatus(found[b"VmPTE"], mapped)


def memory_status(pid: int | str) -> MemoryStatus:
    """The current sizes of a process.

    Raises:
        ProcessLookupError: the process has no address space (any more).
        OSError: /proc cannot be read.
    """
    try:
        return _parse_status(Path(f"/proc/{pid}"))
    except ProcessLookupError:  # the main thread may have ended before others
        return read_living(int(pid), _parse_status)


def vm_pte_kib(pid: int | str) -> int:
    """VmPTE of a process: see `MemoryStatus`.

    Raises:
        ProcessLookupError: the process has no address space (any more).
        OSError: /proc cannot be read.
    """
    return memory_status(pid).vm_pte_kib


def cgroup_of(pid: int) -> str:
    """Its cgroup v2 path, "/" if it is in none.

    Raises:
        OSError: the process has ended.
    """
    lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "/")


class MapsLine(NamedTuple):
    """One mapping of maps or smaps.

    Attributes:
        start: first address.
        end: the address after the last one.
        prot: PROT_ flags.
        shared: whether it is MAP_SHARED.
        offset: offset of the first page in the file, bytes.
        device: major and minor number of the file's device.
        inode: inode number of the file; 0: no file, or the first System V segment.
        name: the end of the line: a path, a name in brackets, or "".
        flags: two-letter VmFlags; empty for maps.
        anonymous_kib: "Anonymous" of smaps in KiB; None for maps.
    """

    start: int
    end: int
    prot: int
    shared: bool
    offset: int
    device: tuple[int, int]
    inode: int
    name: str
    flags: frozenset[str] = frozenset()
    anonymous_kib: int | None = None

    @property
    def is_file(self) -> bool:
        """Whether the mapping is of a file, or of shared memory, which the kernel treats as one."""
        return self.inode != 0 or self.name.startswith("/")


def parse_maps(text: str) -> Iterator[MapsLine]:
    """Parse the text of maps or smaps; yields the mappings of user space, ascending."""
    mapping: MapsLine | None = None
    for line in text.splitlines():
        found = _MAPS_LINE.match(line)
        if found is None:
            if mapping and line.startswith("VmFlags:"):
                mapping = mapping._replace(flags=frozenset(line.split()[1:]))
            elif mapping and line.startswith("Anonymous:"):
                mapping = mapping._replace(anonymous_kib=int(line.split()[1]))
            continue
        if mapping:
            yield mapping
        start, end, r, w, x, sharing, offset, major, minor, inode, name = found.groups()
        mapping = None
        if int(start, 16) < _IN_THE_KERNEL:  # the vsyscall page lies above
            mapping = MapsLine(
                start=int(start, 16),
                end=int(end, 16),
                prot=(r == "r") | (w == "w") << 1 | (x == "x") << 2,
                shared=sharing == "s",
                offset=int(offset, 16),
                device=(int(major, 16), int(minor, 16)),
                inode=int(inode),
                name=name,
            )
    if mapping:
        yield mapping
