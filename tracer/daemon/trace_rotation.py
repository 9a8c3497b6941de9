# SPDX-License-Identifier: GPL-2.0-only
"""Traces of a host, in files of a bounded size, of which the newest are kept."""

import threading
import time
from pathlib import Path
from socket import gethostname

from shadow.engine import Engine, Tee
from shadow.errors import PtescopeError, TraceWriteError, UsageError
from shadow.records import Facts, Record
from shadow.trace import TraceWriter

__all__ = ("Traces",)

_SUFFIX = ".arrows"
_PATIENCE = 60.0
"""Seconds until a new file is tried again."""


class Traces:
    """Writes what shadows take over, one file after the other.

    Each file can be replayed alone: it begins with each process as its shadow has it then.

    Args:
        folder: where they are.
        size: bytes from which on a new file is begun.
        keep: how many files are kept, the one that is written included.

    Raises:
        UsageError: the folder is not there, or cannot be written to.
    """

    def __init__(self, folder: Path, *, size: int, keep: int) -> None:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}; make it, or choose another.")
        self._folder, self._size, self._keep = folder, size, keep
        self._host = gethostname()
        self._ending: list[threading.Thread] = []
        self._problem: str | None = None
        self._try_again = 0.0
        self._open()

    def _open(self) -> None:
        name = f"{self._host}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        path, number = self._folder / (name + _SUFFIX), 1
        while path.exists():
            path, number = self._folder / f"{name}-{number}{_SUFFIX}", number + 1
        self._writer, self._tees = TraceWriter(path), dict[Engine, Tee]()

    def start(self) -> None:
        """Begin to write; what was told until then waits."""
        self._writer.start()

    def tee(self) -> Tee:
        """What the shadow of a process is to tell its records to."""

        def take(engine: Engine, record: Record) -> None:
            tee = self._tees.get(engine)
            if tee:
                tee(engine, record)
                return
            tee = self._tees[engine] = self._writer.tee()
            tee(engine, engine.facts)
            if not isinstance(record, Facts) or record.kernel.seed != "none":
                tee(engine, engine.restated())  # `record` is in it

        return take

    def forget(self, engine: Engine) -> None:
        """Nothing more comes of this process."""
        self._tees.pop(engine, None)

    @property
    def problem(self) -> str | None:
        """Why a file is not complete, or cannot be begun or removed."""
        if self._problem is None and self._writer.problem is not None:
            return f"{self._writer.file.path} cannot be written any more: {self._writer.problem}."
        return self._problem

    def turn_over(self) -> None:
        """Begin a new file, if this one is large enough, and remove the oldest.

        Where that cannot be done the old one goes on, and it is tried again in a while.
        """
        if self._writer.file.size < self._size or time.monotonic() < self._try_again:
            return
        try:
            self._turn_over()
        except (PtescopeError, OSError) as error:
            self._problem = f"A new trace cannot be begun, or an old one removed: {error}"
            self._try_again = time.monotonic() + _PATIENCE

    def _turn_over(self) -> None:
        old = self._writer
        self._open()
        self._writer.start()
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        self._ending.append(threading.Thread(target=self._end, args=(old,)))
        self._ending[-1].start()
        files = sorted(
            self._folder.glob(f"{self._host}-*{_SUFFIX}"), key=lambda p: p.stat().st_mtime
        )
        for path in files[: -self._keep]:
            path.unlink(missing_ok=True)

    def _end(self, writer: TraceWriter) -> None:
        try:
            writer.close()
        except TraceWriteError as error:
            self._problem = str(error)

    def close(self) -> None:
        """End all files.

        Raises:
            TraceWriteError: the last one could not be written to its end.
        """
        for thread in self._ending:
            thread.join()
        self._writer.close()
