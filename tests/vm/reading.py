# SPDX-License-Identifier: GPL-2.0-only
"""Readings in a guest: python -m tests.vm.reading; prints a line of JSON for each.

It compares the census of every process, its VmPTE and a walk without BPF. It finds the allocators
of libraries of its own architecture, and replays traces of both.
"""

import ctypes
import mmap
import os
import sysconfig
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from shadow.errors import NoSuchTargetError
from shadow.geometry import Geometry
from tests.vm.kcore import Kcore
from tests.vm.replayed import HELD, digest_of
from tests.vm.say import say
from tracer.allocator.image_scan import scan_image
from tracer.census.bpf_reader import ExactReader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

__all__ = ("INACCESSIBLE", "PAGES")

PAGES, INACCESSIBLE = 24, 8
"""Entries of this process in an area of its own, and how many of these are PROT_NONE."""
_ONE_BY_ONE = 3
"""Slots that get one page each, of which the first is emptied again."""
_TRIES = 5


def _processes() -> list[int]:
    """Pids of the processes with an address space."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if "VmPTE" in (entry / "status").read_text():
                found.append(int(entry.name))
    return sorted(found)


def _area(geometry: Geometry) -> tuple[mmap.mmap, int]:
    """Memory with known entries, and the first address of its first whole slot."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    area = mmap.mmap(-1, 8 * geometry.slot, flags)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    view = ctypes.c_char.from_buffer(area)
    start = ctypes.addressof(view)
    del view
    first = -start % geometry.slot
    for page in range(PAGES):
        area[first + page * geometry.page] = 1
    for slot in range(1, 1 + _ONE_BY_ONE):
        area[first + slot * geometry.slot] = 1
    area.madvise(mmap.MADV_DONTNEED, first + geometry.slot, geometry.page)
    done = libc.mprotect(
        ctypes.c_void_p(start + first), ctypes.c_size_t(INACCESSIBLE * geometry.page), 0
    )
    assert done == 0
    return area, start + first


def _libraries() -> None:
    """Print the allocators in libraries of this architecture."""
    triplet = str(sysconfig.get_config_var("MULTIARCH"))
    for folder, name in (("/usr/lib", "libjemalloc.so.2"), ("/lib", "libc.so.6")):
        facts = scan_image(str(Path(folder) / triplet / name), name)
        say("library", name=name, builds=[build.name for build in facts.builds])


def _replays() -> None:
    """Replay traces of both architectures, and print a digest of each document."""
    for path in HELD:
        say("replay", trace=path.name, digest=digest_of(path))


def main() -> None:
    """Read everything, and print what was found."""
    kernel = kernel_facts()
    geometry = kernel.geometry
    say(
        "kernel",
        release=kernel.release,
        geometry=geometry.name,
        policy=kernel.policy.label,
        levels=kernel.levels,
    )
    reader, kcore = ExactReader(geometry), Kcore(geometry)
    area, first = _area(geometry)
    me = open_target(os.getpid())
    entries = reader.pages(me, me.vmas()).entries_by_slot()
    census = reader.census(me)
    say(
        "own",
        slots=[entries.get(first + slot * geometry.slot) for slot in range(_ONE_BY_ONE + 2)],
        entries=asdict(census.entries),
    )
    for pid in _processes():
        with suppress(NoSuchTargetError, LookupError, OSError):
            target = open_target(pid)
            for _ in range(_TRIES):  # until the process does nothing meanwhile
                found = reader.census(target)
                oracle = kcore.pte_pages(pid)
                real = reader.pages(target, target.vmas()).entries_by_slot()
                if oracle == real:
                    break
            say(
                "process",
                pid=pid,
                sum_kib=found.sum_kib,
                vm_pte_kib=found.vm_pte_kib,
                oracle_equal=oracle == real,
                pte_pages=len(oracle),
            )
    area.close()
    kcore.close()
    reader.close()
    _libraries()
    _replays()


if __name__ == "__main__":
    main()
