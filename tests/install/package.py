# SPDX-License-Identifier: GPL-2.0-only
"""The Debian package, built once in each test run, and bare roots to install it in."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shadow.version import VERSION

__all__ = ("DIST", "kept_root", "package")

_ROOT = Path(__file__).parents[2]
DIST = _ROOT / "dist"
_RELEASES = {"bookworm": "debian12", "trixie": "debian13", "noble": "ubuntu24.04"}


@functools.cache
def package(suite: str) -> str:
    """Build the package of a release; returns the name of its file in `DIST`."""
    subprocess.run([_ROOT / "tools/build-deb", suite], check=True)
    name = f"ptescope_{VERSION}~{_RELEASES[suite]}_amd64.deb"
    assert (DIST / name).exists()
    return name


@contextmanager
def kept_root(suite: str, script: str) -> Iterator[tuple[Path, str]]:
    """A bare root in which a script ran, with `DIST` in /mnt, and what the script printed."""
    words = ("tools/bare-root", suite, "--keep", "--share", "dist", "--", "sh", "-ec", script)
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    (kept,) = [line for line in done.stderr.splitlines() if line.startswith("== kept: ")]
    root = Path(kept.removeprefix("== kept: "))
    try:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield root, done.stdout + done.stderr
    finally:
        shutil.rmtree(root)
