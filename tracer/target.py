# SPDX-License-Identifier: GPL-2.0-only
"""A process to observe: who it is, whether it can be observed, its VMAs.

A process is (pid, start time): the pair tells a reused pid.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from shadow.errors import NoSuchTargetError, NotPermittedError, UsageError
from shadow.geometry import PAGE_SHIFT
from shadow.snapshot import Process
from shadow.table import VMA, VmaFlag
from tracer.allocator import find_allocators
from tracer.living import living_task, read_living, stat_fields
from tracer.rights import what_is_missing

__all__ = ("FileMapping", "Target", "find_by_name", "open_target")

_PF_KTHREAD = 0x00200000
_ELF_CLASS_32 = 1
_VMA_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([sp]) ([0-9a-f]+) ([0-9a-f:]+) (\d+) *(.*)"
)
_NO_CACHE = re.compile(r"/dev/|/memfd:|/SYSV|/anon_hugepage")
"""Mapped files that are devices or shared memory."""
_SMAPS_FLAGS = {
    "ht": VmaFlag.HUGETLB,
    "hg": VmaFlag.HUGEPAGE,
    "nh": VmaFlag.NOHUGEPAGE,
    "gd": VmaFlag.GROWSDOWN,
    "lo": VmaFlag.LOCKED,
    "dc": VmaFlag.DONTFORK,
    "wf": VmaFlag.WIPEONFORK,
    "nr": VmaFlag.NORESERVE,
}


@dataclass(frozen=True)
class FileMapping:
    """A mapping of a file: where, which part of it, and which file.

    Attributes:
        start: first address.
        end: the address after the last.
        prot: PROT_ flags.
        shared: whether it is MAP_SHARED.
        offset: of its first page in the file, bytes.
        device: of the file, as the kernel numbers it: the major number above 20 bits.
        inode: of the file.
    """

    start: int
    end: int
    prot: int
    shared: bool
    offset: int
    device: int
    inode: int


@dataclass(frozen=True)
class Target:
    """A process that can be observed."""

    pid: int
    start_time: int
    """Clock ticks after boot."""

    def alive(self) -> bool:
        """Whether this very process is still there and a thread of it runs."""
        try:
            main = stat_fields(Path(f"/proc/{self.pid}"))
            if int(main[19]) != self.start_time:
                return False
            return main[0] not in "ZX" or bool(living_task(self.pid))
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _text(self, name: str) -> str:
        return read_living(self.pid, lambda task: (task / name).read_text(errors="replace"))

    def identify(self) -> Process:
        """Its name and executable, as they are now.

        Raises:
            OSError: it has ended.
        """
        try:
            exe = str(read_living(self.pid, lambda task: (task / "exe").readlink()))
        except OSError:
            exe = None
        return Process(
            pid=self.pid,
            comm=Path(f"/proc/{self.pid}/comm").read_text(errors="replace").rstrip("\n"),
            start_time=self.start_time,
            exe=exe,
            allocator=None,
        )

    def describe(self) -> Process:
        """Its allocators too; that takes a second where its images were never looked at.

        Raises:
            OSError: it has ended.
        """
        allocators = read_living(self.pid, lambda task: find_allocators(int(task.name)))
        return replace(
            self.identify(),
            allocator=allocators[0] if allocators else None,
            other_allocators=allocators[1:],
        )

    def thp_disabled(self) -> bool:
        """Whether the process has switched THP off for itself (prctl)."""
        return "THP_enabled:\t0" in self._text("status")

    def vmas(self) -> npt.NDArray[np.void]:
        """(n,) of `VMA`: its VMAs now, sorted.

        smaps tells everything but walks the page tables under the lock that
        the target needs for its mappings; it is read only where huge pages of
        hugetlb must be told apart.
        """
        status = self._text("status")
        hugetlb = re.search(r"HugetlbPages:\s+([1-9])", status)
        lines = self._text("smaps" if hugetlb else "maps").splitlines()
        vmas = np.array(list(_parse_vmas(lines)), VMA)
        return vmas[vmas["end"] >= 0]

    def file_mappings(self) -> list[FileMapping]:
        """Its mappings of files, ascending.

        Raises:
            OSError: it has ended.
        """
        lines = self._text("maps").splitlines()
        return [
            FileMapping(
                start=int(m[1], 16),
                end=int(m[2], 16),
                prot=(m[3] == "r") | (m[4] == "w") << 1 | (m[5] == "x") << 2,
                shared=m[6] == "s",
                offset=int(m[7], 16),
                device=int(m[8].split(":")[0], 16) << 20 | int(m[8].split(":")[1], 16),
                inode=int(m[9]),
            )
            for m in map(_VMA_LINE.match, lines)
            if m and _of_file(m)
        ]

    def mapped_at(self, addresses: list[int], length: int) -> list[str]:
        """What is mapped in [address, address + length), for each of ascending addresses.

        The first mapping by its name in /proc/PID/maps, and how many more there are.
        """
        spans = [_VMA_LINE.match(line) for line in self._text("maps").splitlines()]
        mapped = [(int(m[1], 16), int(m[2], 16), m[10] or "anonymous") for m in spans if m]
        ends = [end for _, end, _ in mapped]
        names = []
        for address in addresses:
            first = last = bisect_right(ends, address)
            while last < len(mapped) and mapped[last][0] < address + length:
                last += 1
            more = f" and {last - first - 1} more" if last > first + 1 else ""
            names.append(mapped[first][2] + more if last > first else "nothing")
        return names

    def program_break(self) -> int:
        """The end of its heap, or where the heap will start; bytes."""
        for line in self._text("maps").splitlines():
            if line.endswith("[heap]"):
                return int(line.split()[0].split("-")[1], 16)
        return int(read_living(self.pid, stat_fields)[44])  # start_brk, field 47


_Row = tuple[int, int, int, int, int, int]
"""A row of `VMA`."""


def _of_file(line: re.Match[str]) -> bool:
    """Whether a line of maps is of a file; the first SysV segment has the inode number 0."""
    return line[9] != "0" or line[10].startswith("/")


def _parse_vmas(lines: list[str]) -> Iterator[_Row]:
    """Rows of `VMA` from the lines of maps or smaps."""
    files: dict[tuple[str, str], int] = {}
    row: _Row | None = None
    for line in lines:
        match = _VMA_LINE.match(line)
        if match is None:
            if row and line.startswith("VmFlags:"):
                more = sum(_SMAPS_FLAGS.get(flag, 0) for flag in line.split()[1:])
                row = (row[0], row[1], row[2] | more, *row[3:])
            continue
        if row:
            yield row
        start, end, offset = int(match[1], 16), int(match[2], 16), int(match[7], 16)
        if start >= 1 << 63:  # the vsyscall page, in the kernel's half
            row = None
            continue
        flags = (
            (match[3] == "r") * VmaFlag.READ
            | (match[4] == "w") * VmaFlag.WRITE
            | (match[5] == "x") * VmaFlag.EXEC
            | (match[6] == "s") * VmaFlag.SHARED
            | (match[10] == "[stack]") * VmaFlag.GROWSDOWN
            | (match[4] == "w" and match[6] == "p") * VmaFlag.ACCOUNT
        )
        if match[10].startswith("/SYSV"):
            flags |= VmaFlag.SPECIAL
        if match[10].startswith("/") and not _NO_CACHE.match(match[10]):
            flags |= VmaFlag.CACHED
        if _of_file(match) or match[10] in ("[vdso]", "[vvar]", "[vvar_vclock]"):
            file = files.setdefault((match[8] + match[10], match[9]), len(files) + 1)
            row = (start, end, flags, file, offset >> PAGE_SHIFT, 0)
        else:
            row = (start, end, flags, 0, start >> PAGE_SHIFT, 0)
    if row:
        yield row


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def open_target(pid: int) -> Target:
    """The process with this pid, if it can be observed.

    Raises:
        NoSuchTargetError: there is none, or it is a zombie.
        UsageError: it has no address space of the kind that ptescope models.
        NotPermittedError: its page tables may not be read.
    """
    try:
        stat = stat_fields(Path(f"/proc/{pid}"))
        tgid = re.search(
            r"^Tgid:\t(\d+)", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.M
        )
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchTargetError(f"There is no process {pid}.") from error
    if tgid and int(tgid[1]) != pid:
        raise UsageError(f"{pid} is a thread; attach to its process: -p {tgid[1]}.")
    target = Target(pid, int(stat[19]))
    if not target.alive():
        raise NoSuchTargetError(
            f"Process {pid} is a zombie: it has ended and has no page tables any more."
        )
    if int(stat[6]) & _PF_KTHREAD:
        raise UsageError(f"{pid} is a kernel thread: it has no page tables of its own.")
    try:
        header = read_living(pid, lambda task: _first_bytes(task / "exe", 5))
        read_living(pid, lambda task: _first_bytes(task / "pagemap", 8))
    except PermissionError as error:
        raise NotPermittedError(
            f"The page tables of process {pid} may not be read; "
            f"{what_is_missing('CAP_SYS_PTRACE')}."
        ) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchTargetError(f"Process {pid} has just ended.") from error
    if header[4:5] == bytes([_ELF_CLASS_32]):
        raise UsageError(
            f"Process {pid} runs a 32-bit program; ptescope follows 64-bit system calls only."
        )
    return target


def _executable(pid: int, exe: str | None) -> str:
    """The file name of an executable; psutil finds none where the main thread has ended."""
    if not exe:
        with suppress(OSError):
            exe = str(read_living(pid, lambda task: (task / "exe").readlink()))
    return Path(exe or "").name


def _can_be_followed(pid: int) -> bool:
    try:
        open_target(pid)
    except (NoSuchTargetError, UsageError):  # a zombie, a kernel thread, a 32-bit program
        return False
    except NotPermittedError:
        pass
    return True


def find_by_name(name: str) -> int:
    """The pid of the one process with this name (comm, or the executable's file name).

    Raises:
        NoSuchTargetError: there is none.
        UsageError: there are several.
    """
    if not name:  # as kernel threads have no executable, they would all match
        raise UsageError("The name of a process is not empty: give -n NAME, or -p PID.")
    found: list[int] = [
        process.pid
        for process in psutil.process_iter(["name", "exe"])
        if process.pid != os.getpid()
        and name in (process.info["name"], _executable(process.pid, process.info["exe"]))
    ]
    if not found:
        raise NoSuchTargetError(f"There is no process named {name!r}.")
    if len(found) > 1:
        found = [pid for pid in found if _can_be_followed(pid)] or found
    if len(found) > 1:
        listed = " ".join(map(str, found[:10]))
        raise UsageError(f"{len(found)} processes are named {name!r}: choose one with -p: {listed}")
    return found[0]
