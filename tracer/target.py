"""A process to observe: who it is, whether it can be observed, its VMAs.

A process is (pid, start time): the pair tells a reused pid.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
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

__all__ = ("Target", "find_by_name", "open_target")

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


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on, numbered from there."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return text[text.rindex(")") + 2 :].split()


@dataclass(frozen=True)
class Target:
    """A process that can be observed."""

    pid: int
    start_time: int
    """Clock ticks after boot."""

    def alive(self) -> bool:
        """Whether this very process is still there and not a zombie."""
        try:
            stat = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return int(stat[19]) == self.start_time and stat[0] not in "ZX"

    def _file(self, name: str) -> Path:
        return Path(f"/proc/{self.pid}/{name}")

    def identify(self) -> Process:
        """Its name and executable, as they are now.

        Raises:
            OSError: it has ended.
        """
        try:
            exe = str(self._file("exe").readlink())
        except OSError:
            exe = None
        return Process(
            pid=self.pid,
            comm=self._file("comm").read_text(errors="replace").rstrip("\n"),
            start_time=self.start_time,
            exe=exe,
            allocator=None,
        )

    def describe(self) -> Process:
        """Its allocators too; that takes a second where its images were never looked at.

        Raises:
            OSError: it has ended.
        """
        allocators = find_allocators(self.pid)
        return replace(
            self.identify(),
            allocator=allocators[0] if allocators else None,
            other_allocators=allocators[1:],
        )

    def thp_disabled(self) -> bool:
        """Whether the process has switched THP off for itself (prctl)."""
        return "THP_enabled:\t0" in self._file("status").read_text(errors="replace")

    def resident_and_swapped(self) -> int:
        """Bytes that the kernel counts as mapped by it or swapped out (VmRSS, VmSwap)."""
        fields = re.findall(
            r"^Vm(?:RSS|Swap):\s+(\d+) kB", self._file("status").read_text(errors="replace"), re.M
        )
        return sum(map(int, fields)) << 10

    def vmas(self) -> npt.NDArray[np.void]:
        """(n,) of `VMA`: its VMAs now, sorted.

        smaps tells everything but walks the page tables under the lock that
        the target needs for its mappings; it is read only where huge pages of
        hugetlb must be told apart.
        """
        status = self._file("status").read_text(errors="replace")
        hugetlb = re.search(r"HugetlbPages:\s+([1-9])", status)
        lines = self._file("smaps" if hugetlb else "maps").read_text(errors="replace").splitlines()
        vmas = np.array(list(_parse_vmas(lines)), VMA)
        return vmas[vmas["end"] >= 0]

    def mapped_at(self, addresses: list[int], length: int) -> list[str]:
        """What is mapped in [address, address + length), for each of ascending addresses.

        The first mapping by its name in /proc/PID/maps, and how many more there are.
        """
        spans = [
            _VMA_LINE.match(line)
            for line in self._file("maps").read_text(errors="replace").splitlines()
        ]
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
        for line in self._file("maps").read_text(errors="replace").splitlines():
            if line.endswith("[heap]"):
                return int(line.split()[0].split("-")[1], 16)
        return int(_stat(self.pid)[44])  # start_brk, field 47


def _parse_vmas(lines: list[str]) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Rows of `VMA` from the lines of maps or smaps."""
    files: dict[tuple[str, str], int] = {}
    row: tuple[int, int, int, int, int, int] | None = None
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
        if match[9] != "0" and match[10].startswith("/") and not _NO_CACHE.match(match[10]):
            flags |= VmaFlag.CACHED
        if match[9] != "0" or match[10] in ("[vdso]", "[vvar]", "[vvar_vclock]"):
            file = files.setdefault((match[8] + match[10], match[9]), len(files) + 1)
            row = (start, end, flags, file, offset >> PAGE_SHIFT, 0)
        else:
            row = (start, end, flags, 0, start >> PAGE_SHIFT, 0)
    if row:
        yield row


def open_target(pid: int) -> Target:
    """The process with this pid, if it can be observed.

    Raises:
        NoSuchTargetError: there is none, or it is a zombie.
        UsageError: it has no address space of the kind that ptescope models.
        NotPermittedError: its page tables may not be read.
    """
    try:
        stat = _stat(pid)
        status = psutil.Process(pid).status()
        tgid = re.search(
            r"^Tgid:\t(\d+)", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.M
        )
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchTargetError(f"There is no process {pid}.") from error
    if tgid and int(tgid[1]) != pid:
        raise UsageError(f"{pid} is a thread; attach to its process: -p {tgid[1]}.")
    if status == psutil.STATUS_ZOMBIE:
        raise NoSuchTargetError(
            f"Process {pid} is a zombie: it has ended and has no page tables any more."
        )
    if int(stat[6]) & _PF_KTHREAD:
        raise UsageError(f"{pid} is a kernel thread: it has no page tables of its own.")
    try:
        with open(f"/proc/{pid}/exe", "rb") as exe:
            header = exe.read(5)
        with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
            pagemap.read(8)
    except PermissionError as error:
        raise NotPermittedError(
            f"The page tables of process {pid} may not be read; this needs root, or CAP_SYS_PTRACE."
        ) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchTargetError(f"Process {pid} has just ended.") from error
    if header[4:5] == bytes([_ELF_CLASS_32]):
        raise UsageError(
            f"Process {pid} runs a 32-bit program; ptescope follows 64-bit system calls only."
        )
    return Target(pid, int(stat[19]))


def find_by_name(name: str) -> int:
    """The pid of the one process with this name (comm, or the executable's file name).

    Raises:
        NoSuchTargetError: there is none.
        UsageError: there are several.
    """
    found: list[int] = [
        process.pid
        for process in psutil.process_iter(["name", "exe"])
        if process.pid != os.getpid()
        and name in (process.info["name"], Path(process.info["exe"] or "").name)
    ]
    if not found:
        raise NoSuchTargetError(f"There is no process named {name!r}.")
    if len(found) > 1:
        listed = " ".join(map(str, found[:10]))
        raise UsageError(f"{len(found)} processes are named {name!r}: choose one with -p: {listed}")
    return found[0]
