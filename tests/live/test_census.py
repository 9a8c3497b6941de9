# SPDX-License-Identifier: GPL-2.0-only
"""The census compared with VmPTE, and with page tables of known content."""

import itertools
import json
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shadow.errors import NoSuchTargetError, UnsupportedHostError
from tests.live.actor import SLOT, Actor
from tests.live.attached import truth
from tracer.census import CountedReader, Reader, bpf_reader, open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_BASE = 0x10_0000_0000
_BUSY = """
import mmap, random, time
area = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    for _ in range(64):
        area[random.randrange(64 << 20)] = 1
    start = random.randrange(64 << 8) << 12
    area.madvise(mmap.MADV_DONTNEED, start, random.randrange(1, (64 << 20) - start + 1))
    time.sleep(random.random() / 10)
"""
_FORKING = "while :; do sleep 0.3; done"


@contextmanager
def _reader() -> Iterator[Reader]:
    reader = open_reader(kernel_facts().geometry)
    try:
        assert reader.exact, reader.why
        yield reader
    finally:
        reader.close()


def test_the_sum_is_vm_pte_in_two_hundred_busy_processes() -> None:
    programs = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(70)]
    programs += [subprocess.Popen(["/bin/sh", "-c", _FORKING]) for _ in range(130)]
    try:
        time.sleep(1)
        with _reader() as reader:
            for program in programs:
                found = reader.census(open_target(program.pid))
                assert found.sum_kib == found.vm_pte_kib, found
                assert found.unstable == 0
                assert found.pte_pages > 1
    finally:
        for program in programs:
            program.kill()
        for program in programs:
            program.wait()


def test_processes_may_end_during_a_census() -> None:
    """Another thread ends each process at a random moment during its reading."""
    ended = 0
    chance = random.Random(7)
    with _reader() as reader:
        for _ in range(100):
            program = subprocess.Popen(["/bin/sleep", "60"])
            target = open_target(program.pid)
            killer = threading.Timer(chance.random() / 1000, program.kill)
            killer.start()
            try:
                while program.returncode is None:
                    assert reader.census(target).pte_pages >= 0
            except (NoSuchTargetError, OSError):
                ended += 1
            killer.join()
            program.wait()
    assert ended == 100


def test_it_agrees_with_pagemap_on_a_quiet_process() -> None:
    actor = Actor()
    try:
        actor.map(_BASE, 64 * SLOT)
        actor.advise(_BASE, 64 * SLOT, mmap.MADV_NOHUGEPAGE)
        for slot in range(64):
            actor.touch(_BASE + slot * SLOT, 4096 * (slot + 1))
        for slot in range(0, 64, 3):
            actor.advise(_BASE + slot * SLOT, SLOT // 2, mmap.MADV_DONTNEED)
        expected = truth(actor.pid)
        with _reader() as reader:
            found = reader.census(open_target(actor.pid))
        counted = CountedReader(kernel_facts().geometry, "as asked").census(open_target(actor.pid))
    finally:
        actor.close()
    refs = sum(count * int(pages) for count, pages in enumerate(found.occupancy))
    assert found.pte_pages == counted.pte_pages == expected.pte_pages
    assert int(found.occupancy[0]) == int(counted.occupancy[0]) == expected.empty == 22
    # pagemap does not show pages without a struct page, such as the vvar page.
    assert 0 <= refs - expected.entries <= 4
    assert found.empty_slots is not None
    assert found.empty_slots.tolist() == [_BASE + slot * SLOT for slot in range(0, 64, 3)]


def test_each_type_of_entry_and_leaf_is_found() -> None:
    """Guard markers, pages of zeroes, pages that may not be touched, a huge page."""
    guard_install, hugepage = 102, mmap.MADV_HUGEPAGE
    actor = Actor()
    try:
        with _reader() as reader:
            target = open_target(actor.pid)
            before = reader.census(target)
            actor.map(_BASE, 4 * SLOT)
            actor.advise(_BASE, 2 * SLOT, mmap.MADV_NOHUGEPAGE)
            assert actor.advise(_BASE + 0x10000, 5 * 4096, guard_install) == 0
            actor.read(_BASE + 0x20000, 7 * 4096)
            actor.touch(_BASE + SLOT, 11 * 4096)
            assert actor.do("mprotect", _BASE + SLOT, SLOT, 0) == 0
            actor.advise(_BASE + 2 * SLOT, 2 * SLOT, hugepage)
            actor.touch(_BASE + 2 * SLOT, 4096)
            after = reader.census(target)
    finally:
        actor.close()
    assert after.entries.marker - before.entries.marker == 5
    assert after.entries.zero_page - before.entries.zero_page == 7
    assert after.entries.present - before.entries.present >= 7 + 11
    if kernel_facts().thp != "never":
        assert after.huge_anon - before.huge_anon == 1
    assert after.sum_kib == after.vm_pte_kib


def test_swapped_entries_are_distinguished_from_present_ones(tmp_path: Path) -> None:
    swapfile = tmp_path / "swap"
    subprocess.run(["fallocate", "-l", "64M", swapfile], check=True)
    swapfile.chmod(0o600)
    subprocess.run(["/sbin/mkswap", swapfile], check=True, capture_output=True)
    on = subprocess.run(["/sbin/swapon", swapfile], check=False, capture_output=True, text=True)
    if on.returncode:
        pytest.xfail(f"this file system or kernel supports no swap file: {on.stderr}")
    actor = Actor()
    try:
        actor.map(_BASE, SLOT)
        actor.advise(_BASE, SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, SLOT)
        actor.advise(_BASE, SLOT, 21)  # MADV_PAGEOUT
        with _reader() as reader:
            found = reader.census(open_target(actor.pid))
        assert found.entries.swap > 0
        assert found.sum_kib == found.vm_pte_kib
    finally:
        actor.close()
        subprocess.run(["/sbin/swapoff", swapfile], check=True)


def _census(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [_PTESCOPE, "census", "--json", *arguments], capture_output=True, text=True, check=True
    )
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    processes = document["processes"]
    assert isinstance(processes, list)
    return processes


def test_the_command_names_the_empty_slots_and_what_is_mapped_there() -> None:
    actor = Actor()
    try:
        actor.map(_BASE, 3 * SLOT)
        actor.advise(_BASE, 3 * SLOT, mmap.MADV_NOHUGEPAGE)
        actor.touch(_BASE, 3 * SLOT)
        for half in range(4):
            actor.advise(_BASE + half * SLOT // 2, SLOT // 2, mmap.MADV_DONTNEED)
        assert actor.do("mprotect", _BASE, 4096, 1) == 0
        (found,) = _census(str(actor.pid), "--slots")
    finally:
        actor.close()
    assert found["empty_slots"] == [_BASE, _BASE + SLOT]
    assert found["empty_slot_vmas"] == ["anonymous and 1 more", "anonymous"]
    assert found["now"]["empty"] == found["now"]["occupancy"][0] == 2
    assert found["now"]["vm_pte_kib"] == found["now"]["vm_pte_predicted_kib"]
    assert found["reading"]["exact"] is True


def test_all_processes_largest_first() -> None:
    """Sizes are from before the readings, so the order may be off by a few pages."""
    programs = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(20)]
    try:
        found = _census("--all")
    finally:
        for program in programs:
            program.kill()
            program.wait()
    pids = {process["process"]["pid"] for process in found}
    sizes = [process["now"]["vm_pte_kib"] for process in found]
    assert {os.getpid(), *(program.pid for program in programs)} <= pids
    assert all(after <= before + 64 for before, after in itertools.pairwise(sizes))
    assert max(sizes) > 100 > sizes[-1]


def test_without_the_right_to_read_kernel_memory_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise UnsupportedHostError("lockdown")

    monkeypatch.setattr(bpf_reader, "KernelMemory", refuse)
    reader = open_reader(kernel_facts().geometry)
    found = reader.census(open_target(os.getpid()))
    assert not reader.exact
    assert reader.why == "lockdown"
    assert found.empty_slots is None
    assert found.sum_kib == found.vm_pte_kib


def test_a_census_of_a_missing_process_is_status_3() -> None:
    done = subprocess.run(
        [_PTESCOPE, "census", "999999"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr == "ptescope: There is no process 999999.\n"
