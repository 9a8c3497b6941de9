# SPDX-License-Identifier: GPL-2.0-only
"""Whether processes drift, asked of all of them each second for little.

Reading /proc/PID/status takes some 20 us, which is too much for a thousand processes that do
nothing. So VmPTE is read out of the kernel's memory, many processes at a time, where page
tables are read so; and resident pages from statm, which is kept open. Only where one of the two
moved is the process looked at (`tracer.follow.looks`).
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
"""VmPTE where the reader gives it, and statm."""


def _files_to_keep() -> int:
    """How many files may be kept open: half of what this process may have at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft // 2


class Pulses:
    """The figures of each process when it was last asked.

    Args:
        reader: how page tables are read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._most = _files_to_keep()
        self._files: dict[int, int] = {}
        self._figures: dict[int, _Figures] = {}

    def moved(self, targets: Mapping[int, Target]) -> set[int]:
        """Ask all; returns those whose figures are not what they were, by pid."""
        sizes = self._reader.page_table_kib(targets.values())
        before, self._figures = self._figures, {}
        for pid in targets:
            size = sizes.get(pid)
            # Only status has the VmPTE of one whose size the reader does not give.
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
        """What shows that the process moves; b"": it has ended."""
        file = self._files.get(pid)
        try:
            text = b"" if file is None else os.pread(file, _STATM_BYTES, 0)
            return text if text and text[:2] != b"0 " else self._reopen(pid)
        except OSError:
            return b""

    def _reopen(self, pid: int) -> bytes:
        """Open it, for the first time or because the thread that it was of has ended."""
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
        """It is not followed any more."""
        self._close(pid)
        self._figures.pop(pid, None)

    def close(self) -> None:
        """Close all files."""
        for pid in list(self._files):
            self._close(pid)
