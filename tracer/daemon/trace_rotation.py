# SPDX-License-Identifier: GPL-2.0-only
"""Traces of a host in files of limited size; only the newest are kept."""

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
"""Seconds until the next try after a new file could not be opened."""


class Traces:
    """Writes the records of shadows to one file after another.

    Each file is self-contained: it starts with a snapshot of every process.

    Args:
        folder: the folder of the files.
        size: bytes after which a new file begins.
        keep: number of files to keep, including the current one.

    Raises:
        UsageError: the folder does not exist, or cannot be written to.
    """

    def __init__(self, folder: Path, *, size: int, keep: int) -> None:
        if not folder.is_dir():
            raise UsageError(f"The folder {folder} does not exist; create it, or choose another.")
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
        """Start to write; earlier records have waited in a queue."""
        self._writer.start()

    def tee(self) -> Tee:
        """The function to which the shadow of a process hands its records."""

        def take(engine: Engine, record: Record) -> None:
            tee = self._tees.get(engine)
            if tee:
                tee(engine, record)
                return
            tee = self._tees[engine] = self._writer.tee()
            tee(engine, engine.facts)
            if not isinstance(record, Facts) or record.kernel.seed != "none":
                tee(engine, engine.restated())  # the snapshot includes `record`

        return take

    def forget(self, engine: Engine) -> None:
        """End the records of a process."""
        self._tees.pop(engine, None)

    @property
    def problem(self) -> str | None:
        """Why a file is incomplete, or cannot be opened or removed; None: all is well."""
        if self._problem is None and self._writer.problem is not None:
            return f"{self._writer.file.path} can no longer be written: {self._writer.problem}."
        return self._problem

    def turn_over(self) -> None:
        """Begin a new file if the current one is large enough, and remove the oldest.

        If that fails, the current file continues, and a later call tries again.
        """
        if self._writer.file.size < self._size or time.monotonic() < self._try_again:
            return
        try:
            self._turn_over()
        except (PtescopeError, OSError) as error:
            self._problem = f"A new trace cannot be opened, or an old one not removed: {error}"
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
            TraceWriteError: the last file could not be completed.
        """
        for thread in self._ending:
            thread.join()
        self._writer.close()
