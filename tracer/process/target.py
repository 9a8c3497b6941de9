# SPDX-License-Identifier: GPL-2.0-only
"""A process to follow: its identity, whether it can be followed, its VMAs.

Pid and start time identify a process, because the kernel reuses pids.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shadow.errors import NoSuchTargetError, NotPermittedError, UsageError
from shadow.mapping_names import MappingNames
from shadow.snapshot import Process
from tracer.capabilities import missing_capabilities
from tracer.process.mapped_names import mapping_names
from tracer.process.vmas import vma_rows
from tracer.procfs import MapsLine, living_task, parse_maps, read_living, stat_fields

__all__ = ("Mapped", "Target", "open_target")

_HUGETLB = re.compile(r"HugetlbPages:\s+([1-9])")
_PF_KTHREAD = 0x00200000
_ELF_CLASS_32 = 1


class Mapped(NamedTuple):
    """The mappings of a process at one moment.

    Attributes:
        vmas: (n,) of `VMA`, sorted.
        names: of these.
        brk: the program break, or where the heap will begin; bytes.
    """

    vmas: npt.NDArray[np.void]
    names: MappingNames
    brk: int


@dataclass(frozen=True)
class Target:
    """A process that can be followed."""

    pid: int
    start_time: int
    """Start time, clock ticks after boot."""

    def alive(self) -> bool:
        """Whether exactly this process exists and a thread of it runs."""
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
        """The current name and executable.

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
        """As `identify`, with the allocators; takes up to a second for new images.

        Raises:
            OSError: it has ended.
        """
        # What reads images is large, and following can begin without it.
        from tracer.allocator import find_allocators
        from tracer.allocator.remedy import find_remedy

        allocators = read_living(self.pid, lambda task: find_allocators(int(task.name)))
        return replace(
            self.identify(),
            allocator=allocators[0] if allocators else None,
            other_allocators=allocators[1:],
            remedy=read_living(self.pid, lambda task: find_remedy(int(task.name))),
        )

    def thp_disabled(self) -> bool:
        """Whether the process has switched THP off for itself (prctl)."""
        return "THP_enabled:\t0" in self._text("status")

    def vmas(self) -> npt.NDArray[np.void]:
        """The current VMAs, (n,) of `VMA`, sorted.

        smaps has all attributes, but it walks the page tables under the lock that the target
        needs to change its mappings. So smaps is read only if hugetlb mappings must be
        identified.
        """
        hugetlb = _HUGETLB.search(self._text("status"))
        return vma_rows(parse_maps(self._text("smaps" if hugetlb else "maps")))

    def mapped(self) -> Mapped:
        """Its VMAs and their names, of one reading.

        Raises:
            OSError: it has ended.
        """
        hugetlb = _HUGETLB.search(self._text("status"))
        lines = list(parse_maps(self._text("smaps" if hugetlb else "maps")))
        vmas, brk = vma_rows(lines), self._break(lines)
        return Mapped(vmas, mapping_names(lines, vmas, brk), brk)

    def file_mappings(self) -> list[MapsLine]:
        """The file mappings, ascending.

        Raises:
            OSError: it has ended.
        """
        return [mapping for mapping in parse_maps(self._text("maps")) if mapping.is_file]

    def names(self, vmas: npt.NDArray[np.void]) -> MappingNames:
        """Names of these of its VMAs, as they are now.

        Raises:
            OSError: it has ended.
        """
        lines = list(parse_maps(self._text("maps")))
        return mapping_names(lines, vmas, self._break(lines))

    def mapped_at(self, addresses: list[int], length: int) -> list[str]:
        """The mappings in [address, address + length), for each of ascending addresses.

        A text has the name of the first mapping in /proc/PID/maps, and the number of others.
        """
        mapped = list(parse_maps(self._text("maps")))
        ends = [mapping.end for mapping in mapped]
        names = []
        for address in addresses:
            first = last = bisect_right(ends, address)
            while last < len(mapped) and mapped[last].start < address + length:
                last += 1
            more = f" and {last - first - 1} more" if last > first + 1 else ""
            name = mapped[first].name or "anonymous" if last > first else "nothing"
            names.append(name + more)
        return names

    def program_break(self) -> int:
        """The end of the heap, or its future start if there is none; bytes."""
        return self._break(parse_maps(self._text("maps")))

    def _break(self, mappings: Iterable[MapsLine]) -> int:
        ends = [mapping.end for mapping in mappings if mapping.name == "[heap]"]
        if ends:  # there are several where parts of it differ in access
            return max(ends)
        return int(read_living(self.pid, stat_fields)[44])  # start_brk, field 47


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def open_target(pid: int) -> Target:
    """Open the process with this pid, if it can be followed.

    Raises:
        NoSuchTargetError: the process does not exist, or is a zombie.
        UsageError: it is a thread, a kernel thread or a 32-bit program.
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
            f"{missing_capabilities('CAP_SYS_PTRACE')}."
        ) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchTargetError(f"Process {pid} has just ended.") from error
    if header[4:5] == bytes([_ELF_CLASS_32]):
        raise UsageError(
            f"Process {pid} runs a 32-bit program; ptescope follows 64-bit system calls only."
        )
    return target
