# SPDX-License-Identifier: GPL-2.0-only
"""Machine code that an installation compiles once, for all accounts of the machine.

    python -m shadow.shared_cache

compiles everything into `SHARED`, as root, so that no account compiles at its first start. Root
uses the code there. Other accounts copy it into their own cache folder, because numba uses no
folder that it cannot write to. The copy is used only where it is sound: the name of the folder is
a digest of the compiled sources, and the name of the stamp one of the processor and of the place
of the sources.
"""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from shadow.cache_folder import SHARED, VARIABLE, owner_problem

__all__ = ("copy_shared",)

_ROOT = 0


def copy_shared(folder: Path, stamp: str) -> bool:
    """Copy the shared machine code into an account's own folder.

    Args:
        folder: the account's folder for this version of the sources.
        stamp: the file that exists where the code is complete, and made for this processor.

    Returns:
        Whether the folder is complete now.
    """
    shared = SHARED / folder.name
    with suppress(OSError, shutil.Error):
        if shared == folder or not (shared / stamp).is_file() or owner_problem(shared, _ROOT):
            return False
        for place in filter(Path.is_dir, shared.iterdir()):
            shutil.copytree(place, folder / place.name, dirs_exist_ok=True)
        (folder / stamp).touch(mode=0o600)
        return True
    return False


def _compile_for_all() -> None:
    """Compile everything into `SHARED`, readable by all accounts."""
    os.umask(0o022)
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(SHARED)

    from shadow import whatif
    from shadow.precompile import compile_into_cache
    from shadow.table.jit import cache_place

    whatif.prepare()
    compile_into_cache()
    folder, refused = cache_place()
    if folder is None or folder.parent != SHARED:
        sys.exit(f"ptescope: {SHARED} cannot be used: {'; '.join(refused)}.")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    _compile_for_all()
