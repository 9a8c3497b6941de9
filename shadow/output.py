"""Files that are written: readable by their owner only, and never by accident over another."""

import os
import stat
from pathlib import Path

from shadow.errors import UsageError

__all__ = ("create",)


def create(path: Path, *, force: bool = False) -> int:
    """A new file with mode 0600: what is told of a process is told to who asked.

    Args:
        path: where.
        force: whether to replace a regular file that is there.

    Returns:
        Its file descriptor, to write to.

    Raises:
        UsageError: it is there already, or cannot be made.
    """
    try:
        if force and path.exists() and stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        hint = "it is no regular file" if force else "--force replaces it"
        raise UsageError(f"{path} is there already ({hint}).") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
