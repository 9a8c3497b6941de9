# SPDX-License-Identifier: GPL-2.0-only
"""A cheap check of all processes for drift, once a second.

A read of /proc/PID/status takes about 20 us, which is too much for a thousand idle processes.
So the exact reader reads VmPTE from kernel memory, many processes at a time, and statm, which
stays open, shows resident pages. Only if one of the two changes does the daemon check the
process itself (`tracer.follow.looks`).
"""

import os
import resource
from collections.abc import Mapping
from contextlib import suppress

from tracer.census import Reader
from tracer.process.target import Target
from tracer.procfs import living_task, memory_status

__all__ = ("Pulses",)

_STATM_BYTES = 128
_Figures = tuple[int | None, bytes]
"""VmPTE, if the reader provides it, and statm."""


def _files_to_keep() -> int:
    """Number of files to keep open: half of the limit of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft // 2


class Pulses:
    """The sizes of each process at the last check.

    Args:
        reader: reads page tables.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._most = _files_to_keep()
        self._files: dict[int, int] = {}
        self._figures: dict[int, _Figures] = {}

    def moved(self, targets: Mapping[int, Target]) -> set[int]:
        """Check all processes; returns the pids of those with changed sizes."""
        sizes = self._reader.page_table_kib(targets.values())
        before, self._figures = self._figures, {}
        for pid in targets:
            size = sizes.get(pid)
            # If the reader does not provide the size, only status has VmPTE.
            text = self._statm(pid) if size is not None else self._status(pid)
            self._figures[pid] = size, text
        return {pid for pid, figures in self._figures.items() if before.get(pid) != figures}

    @staticmethod
    def _status(pid: int) -> bytes:
        try:
            return repr(memory_status(pid)).encode()
        except OSError:
            return b""

    def _statm(self, pid: int) -> bytes:
        """The text of statm; b"": the process has ended."""
        file = self._files.get(pid)
        try:
            text = b"" if file is None else os.pread(file, _STATM_BYTES, 0)
            return text if text and text[:2] != b"0 " else self._reopen(pid)
        except OSError:
            return b""

    def _reopen(self, pid: int) -> bytes:
        """Open statm, for the first time or because the thread of the open file has ended."""
        self._close(pid)
        file = os.open(living_task(pid) / "statm", os.O_RDONLY | os.O_CLOEXEC)
        text = os.pread(file, _STATM_BYTES, 0)
        if len(self._files) < self._most:
            self._files[pid] = file
        else:
            os.close(file)
        return text

    def _close(self, pid: int) -> None:
        file = self._files.pop(pid, None)
        if file is not None:
            os.close(file)

    def forget(self, pid: int) -> None:
        """Drop a process that is no longer followed."""
        self._close(pid)
        self._figures.pop(pid, None)

    def close(self) -> None:
        """Close all files."""
        for pid in list(self._files):
            self._close(pid)
