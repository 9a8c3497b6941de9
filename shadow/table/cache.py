# SPDX-License-Identifier: GPL-2.0-only
"""The folder in which machine code is kept.

What lies in it is run, so nobody but root and the account itself may be able to write
there: that holds for the folder and for all folders that lead to it. Root takes neither
$HOME nor $XDG_CACHE_HOME from the environment, which `sudo -E` hands over from somebody
else.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ("VARIABLE", "cache_folder")

VARIABLE = "PTESCOPE_CACHE"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def _places() -> Iterator[Path]:
    """Where the folder may be, the best place first."""
    me = os.geteuid()
    if chosen := os.environ.get(VARIABLE):
        yield Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if me != 0 and xdg.startswith("/"):
        yield Path(xdg) / "ptescope"
    with suppress(KeyError):  # an account without an entry, as containers have
        yield Path(pwd.getpwuid(me).pw_dir) / ".cache" / "ptescope"
    if me == 0:
        yield Path("/var/cache/ptescope")
    # Anybody can make this one first; then it is not ours alone, and is not taken.
    yield Path(f"/var/tmp/ptescope-{me}")


def _problem(folder: Path) -> str | None:
    """Why this folder is not safe, if it is not."""
    me = os.geteuid()
    for place in (folder, *folder.parents):
        found = place.stat()
        if found.st_uid not in (0, me):
            return f"{place} belongs to another user"
        sticky = found.st_mode & stat.S_ISVTX and place != folder
        if found.st_mode & _WRITABLE_BY_OTHERS and not sticky:
            return f"others may write to {place}"
    if folder.stat().st_uid != me:
        return f"{folder} belongs to another user"
    return None


def _made(folder: Path) -> Path:
    """The folder, made if it is not there; raises OSError if it is not usable."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = folder.resolve()
    if problem := _problem(folder):
        raise PermissionError(0, problem)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(0, f"{folder} cannot be written")
    return folder


def cache_folder(name: str) -> tuple[Path | None, list[str]]:
    """The folder for what is compiled.

    Args:
        name: stands for what is compiled, a folder within the one that is found.

    Returns:
        The folder, or None if there is no safe one that can be written; and why each
        better place was not taken.
    """
    refused: list[str] = []
    for place in _places():
        try:
            return _made(_made(place) / name), refused
        except OSError as error:
            reason = error.strerror if error.errno == 0 else f"{place}: {error.strerror}"
            refused.append(str(reason))
    return None, refused
