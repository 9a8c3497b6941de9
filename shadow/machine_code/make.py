# SPDX-License-Identifier: GPL-2.0-only
"""The process that compiles: it writes the image to a file that the caller opened, and keeps it."""

import fcntl
import mmap
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from shadow.cache_folder import VARIABLE
from shadow.events import EVENT, Kind
from shadow.geometry import Geometry, geometry_of, geometry_of_page
from shadow.machine_code.compiler import compile_image
from shadow.machine_code.image import ImageError, parsed
from shadow.machine_code.place import MACHINE, cache_place, digest, image_name
from shadow.table.compiled import Sample, sampled
from shadow.table.table import Table
from shadow.table.vma import VMA
from shadow.whatif.delayed_purge import delayed_purge
from shadow.whatif.munmap_for_purge import munmap_for_purge

__all__ = ("main", "samples", "ship")

_SECONDS_UNUSED = 14 * 86400
"""Age at which the machine code of other versions is removed, counted from its last use."""


def samples(geometry: Geometry) -> dict[str, Sample]:
    """Call every entry once, with empty arrays."""
    with sampled() as taken:
        table = Table(geometry=geometry)
        table.feed(np.empty(0, EVENT))
        none = np.empty(0, np.int64)
        pages = Table.of_runs(none, none, np.empty(0, np.uint8), geometry).pages()
        table.seed(replace(pages, guards=(none, none)), 0)
        table.adopt_upper(none, none)
        table.seed_vmas(np.empty(0, VMA), 0)
        table.fork()
        purge = np.zeros(1, EVENT)
        purge["kind"], purge["length"] = Kind.DONTNEED, geometry.page
        delayed_purge(purge, 1, geometry=geometry)
        munmap_for_purge(purge, geometry)
        return taken


def _kept(path: Path) -> bytes | None:
    """The image of a command that compiled meanwhile."""
    with suppress(OSError, ImageError):
        image = path.read_bytes()
        parsed(image)
        return image
    return None


def _keep(path: Path, image: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(image)
            file.flush()
            Path(file.name).rename(path)
        except OSError:
            Path(file.name).unlink()
            raise


def _made(folder: Path, geometry: Geometry) -> bytes:
    """The image, compiled by one of the commands that start together."""
    path = folder / image_name(geometry.entries)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if image := _kept(path):
            return image
        image = compile_image(samples(geometry))
        try:
            _keep(path, image)
        except OSError as error:
            _complain(folder, error)
        with suppress(OSError):
            _remove_unused(folder, os.fstat(lock.fileno()).st_mtime)
    return image


def _complain(folder: Path, error: OSError) -> None:
    sys.stderr.write(
        f"cannot save compiled code in {folder}: {error.strerror or error}. The next start "
        f"compiles again; free space there, or set {VARIABLE} to another folder.\n"
    )


def _remove_unused(folder: Path, now: float) -> None:
    """Remove the machine code of versions that nobody has used for some time."""
    for lock in folder.parent.glob("*/lock"):
        other = lock.parent
        if other == folder or not re.fullmatch("[0-9a-f]{16}", other.name):
            continue
        used = max(path.stat().st_mtime for path in (lock, *other.glob("*.image")))
        if now - used > _SECONDS_UNUSED:
            shutil.rmtree(other, ignore_errors=True)


def _image(geometry: Geometry) -> bytes:
    folder, _ = cache_place()
    return compile_image(samples(geometry)) if folder is None else _made(folder, geometry)


def ship(folder: str, machine: str = MACHINE, page: int = mmap.PAGESIZE) -> None:
    """Put machine code into a folder, for a wheel or for a guest.

    Args:
        folder: an empty one.
        machine: what the code is for, as uname names it.
        page: bytes of its pages.
    """
    geometry = geometry_of_page(page)
    place = Path(folder) / digest()
    place.mkdir()
    foreign = machine != MACHINE
    image = compile_image(samples(geometry), machine) if foreign else _image(geometry)
    (place / image_name(geometry.entries, machine)).write_bytes(image)


def main() -> None:
    """Compile, and write the image to an open file.

    The arguments are the number of entries of a PTE page, and the number of the file.
    """
    geometry, file = geometry_of(int(sys.argv[-2])), int(sys.argv[-1])
    image = _image(geometry)
    with open(file, "wb") as result:
        result.write(image)
