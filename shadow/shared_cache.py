# SPDX-License-Identifier: GPL-2.0-only
"""Machine code that an installation compiles once, for all accounts of the machine.

    python -m shadow.shared_cache

compiles it into `SHARED`, as root, so that no account compiles at its first start
(`shadow.precompile`).
"""

import mmap
import os
import sys

from shadow.cache_folder import SHARED, VARIABLE
from shadow.geometry import geometry_of_page
from shadow.machine_code.place import cache_place
from shadow.precompile import prepare

__all__ = ()


def _compile_for_all() -> None:
    """Compile into `SHARED`, readable by all accounts."""
    os.umask(0o022)
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(SHARED)
    prepare(geometry_of_page(mmap.PAGESIZE))
    folder, refused = cache_place()
    if folder is None or folder.parent != SHARED:
        sys.exit(f"ptescope: {SHARED} cannot be used: {'; '.join(refused)}.")
    folder.chmod(0o755)
    for image in folder.glob("*.image"):
        image.chmod(0o644)


if __name__ == "__main__":
    _compile_for_all()
