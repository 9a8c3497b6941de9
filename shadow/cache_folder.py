# SPDX-License-Identifier: GPL-2.0-only
"""The folder of the machine code cache.

ptescope runs the code in this folder, so only root and the account itself may have write
access to it and to all folders above it. Root ignores $HOME and $XDG_CACHE_HOME, because
`sudo -E` passes them on from another account.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ("SHARED", "VARIABLE", "cache_folder", "owner_problem")

VARIABLE = "PTESCOPE_CACHE"
SHARED = Path("/var/cache/ptescope")
"""The folder of root; an installed package has it made (`shadow.shared_cache`)."""
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def _places() -> Iterator[Path]:
    """Candidates for the folder, the best first."""
    me = os.geteuid()
    if chosen := os.environ.get(VARIABLE):
        yield Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if me != 0 and xdg.startswith("/"):
        yield Path(xdg) / "ptescope"
    installed = me == 0 and SHARED.is_dir()
    if installed:
        yield SHARED
    with suppress(KeyError):  # an account without an entry, as in containers
        yield Path(pwd.getpwuid(me).pw_dir) / ".cache" / "ptescope"
    if me == 0 and not installed:
        yield SHARED
    # Another account can make this folder first; then it fails the check of its owner.
    yield Path(f"/var/tmp/ptescope-{me}")


def owner_problem(folder: Path, owner: int) -> str | None:
    """Why this folder is not safe, if it is not.

    Args:
        folder: the folder.
        owner: the account that it must belong to.
    """
    for place in (folder, *folder.parents):
        found = place.stat()
        if found.st_uid not in (0, owner):
            return f"{place} belongs to another user"
        sticky = found.st_mode & stat.S_ISVTX and place != folder
        if found.st_mode & _WRITABLE_BY_OTHERS and not sticky:
            return f"others may write to {place}"
    if folder.stat().st_uid != owner:
        return f"{folder} belongs to another user"
    return None


def _made(folder: Path) -> Path:
    """Create the folder if necessary; raise OSError if it is not usable."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = folder.resolve()
    if problem := owner_problem(folder, os.geteuid()):
        raise PermissionError(0, problem)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(0, f"{folder} cannot be written")
    return folder


def cache_folder(name: str) -> tuple[Path | None, list[str]]:
    """Find the folder for machine code, and create it.

    Args:
        name: identifies the compiled code; the name of the subfolder.

    Returns:
        The folder, or None if no safe folder can be written; and why each better candidate
        was refused.
    """
    refused: list[str] = []
    for place in _places():
        try:
            return _made(_made(place) / name), refused
        except OSError as error:
            reason = error.strerror if error.errno == 0 else f"{place}: {error.strerror}"
            refused.append(str(reason))
    return None, refused
