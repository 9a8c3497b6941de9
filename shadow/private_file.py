# SPDX-License-Identifier: GPL-2.0-only
"""Files that are written: for their owner, whole, and never by accident over another.

A file is written beside its place, under a name of its own, and takes its place when its
writer says that it is good. Until then what was there before stays.
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
    """Refuse a place for a file before the work for it begins.

    Args:
        path: the place; None: no file is wanted.
        force: whether a regular file that is there may be replaced.

    Raises:
        UsageError: something is there already, or nothing can be made there.
    """
    if path is None:
        return
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise UsageError(f"{path} cannot be written: there is no such folder.") from error
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a folder; give the name of a file.")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is there already, and is no regular file.")
    if not force:
        raise UsageError(f"{path} is there already (--force replaces it).")


class NewFile:
    """A file with mode 0600: traces describe memory, so only their owner may read them.

    As a context manager it is closed and published at the end of the block, and discarded if
    the block raises.

    Args:
        path: its place.
        force: whether to replace a regular file that is there.

    Attributes:
        fd: file descriptor to write to.

    Raises:
        UsageError: something is there already, or nothing can be made there.
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
        """Let it take its place, which happens once.

        Raises:
            UsageError: something has come there meanwhile.
            OutputError: it cannot be moved there.
        """
        if self._beside is not None:
            try:
                self._move(self._beside)
            except OSError as error:
                raise OutputError(f"{self.path} cannot be made: {error.strerror}.") from error
            self._beside = None

    def publish_if_folder_is_anothers(self) -> None:
        """Publish now where dropping rights takes away the right to do so later."""
        if self.path.parent.stat().st_uid != os.geteuid():
            self.publish()

    def _move(self, beside: Path) -> None:
        if self._force:
            check_place(self.path, force=self._force)
            beside.replace(self.path)
        else:
            try:
                self.path.hardlink_to(beside)  # unlike rename this replaces nothing
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
        """The file, to be written in this block.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with open(self.fd, mode, closefd=False) as file:
                yield file
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error

    def discard(self) -> None:
        """Leave nothing behind, unless it is published."""
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
