# SPDX-License-Identifier: GPL-2.0-only
"""Output files: private to their owner, complete, and never overwritten by accident.

`NewFile` writes to a temporary file in the same folder and moves it to its final path when
the writer publishes it. Until then an existing file stays in place.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from types import TracebackType
from typing import Any

from shadow.errors import OutputError, UsageError

__all__ = ("NewFile", "check_place")


def check_place(path: Path | None, *, force: bool) -> None:
    """Check a path for a new file before the work for the file begins.

    Args:
        path: the path; None: no file is wanted.
        force: whether to replace an existing regular file.

    Raises:
        UsageError: the path exists already, or no file can be created there.
    """
    if path is None:
        return
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise UsageError(
                f"{path} cannot be written: its folder does not exist. Create the folder, or give "
                "another path."
            ) from error
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder; give the path of a file.")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} exists and is not a regular file; give another path.")
    if not force:
        raise UsageError(f"{path} exists already (--force replaces it).")


class NewFile:
    """A file with mode 0600: traces describe memory, so only their owner may read them.

    As a context manager, it closes and publishes the file at the end of the block, and
    discards the file if the block raises.

    Args:
        path: the final path.
        force: whether to replace an existing regular file.

    Attributes:
        fd: file descriptor to write to.

    Raises:
        UsageError: the path exists already, or no file can be created there.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path, self._force = path, force
        check_place(path, force=force)
        try:
            self.fd, name = mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
        self._beside: Path | None = Path(name)

    def publish(self) -> None:
        """Move the file to its final path; later calls do nothing.

        Raises:
            UsageError: a file has appeared at that path in the meantime.
            OutputError: the file cannot be moved there.
        """
        if self._beside is not None:
            try:
                self._move(self._beside)
            except OSError as error:
                raise OutputError(f"{self.path} cannot be created: {error.strerror}.") from error
            self._beside = None

    def publish_if_folder_is_anothers(self) -> None:
        """Publish now if another user owns the folder, because dropped rights prevent it later."""
        if self.path.parent.stat().st_uid != os.geteuid():
            self.publish()

    def _move(self, beside: Path) -> None:
        if self._force:
            check_place(self.path, force=self._force)
            beside.replace(self.path)
        else:
            try:
                self.path.hardlink_to(beside)  # unlike rename, this never replaces a file
            except FileExistsError:
                check_place(self.path, force=self._force)
                raise
            except OSError:  # a file system without hard links
                check_place(self.path, force=self._force)
                beside.rename(self.path)
            else:
                beside.unlink()

    @contextmanager
    def opened(self, mode: str) -> Iterator[Any]:
        """Open the file for writing in this block.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            with open(self.fd, mode, closefd=False) as file:
                yield file
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error

    def discard(self) -> None:
        """Delete the temporary file, unless it is published."""
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink()
            self._beside = None

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)
        try:
            if error is None:
                self.publish()
        finally:
            self.discard()
