# SPDX-License-Identifier: GPL-2.0-only
"""mimalloc, shared or linked in, and its options.

In the environment, the name of an option follows MIMALLOC_. In a running process, a table
in memory holds the options (src/options.c, `mi_option_desc_t`). Only the function mi_version
contains the version, so it is read from the machine code of that function.
"""

import re
import struct

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build, Place
from tracer.allocator.elf_image import Image
from tracer.allocator.process_memory import View

__all__ = ("options", "recognise")

_MARK = b"mimalloc: warning: \0"
_NAMES = (
    "purge_delay",
    "purge_decommits",
    "minimal_purge_size",
    "allow_thp",
    "arena_purge_mult",
    "decommit_delay",
    "allow_decommit",
    "reset_delay",
)
_OF_PYTHON, _FREE_THREADED = "PyMem_RawMalloc", b"free-threading build"
"""CPython contains mimalloc since 3.13; PYTHONMALLOC or a build without the GIL selects it."""
_ROW = struct.Struct("<qiiQQ")
"""`mi_option_desc_t`: value, state, option, name, older name."""
_TABLE = "mi_options"
_MOST_ROWS = 128
_OPTION_NAME = re.compile(r"[a-z0-9_]{3,40}")


def _version(image: Image) -> str | None:
    """The version is 10000 major + 100 minor + patch since 3.0; before, 100, 10 and 1."""
    symbol = image.symbol("mi_version")
    number = image.arch.returned_number(image.at(symbol.value, 16)) if symbol else None
    if number is None:
        return None
    if number >= 10000:
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 100}.{number // 10 % 10}.{number % 10}"


def recognise(image: Image) -> Build | None:
    """The mimalloc in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    if not image.says(_MARK):
        return None
    version, table = _version(image), image.symbol(_TABLE)
    unknown = []
    if version is None:
        unknown.append("its version: the function mi_version is stripped")
    if table is None:
        unknown.append(
            "its live options: their symbol is stripped, so those of the environment are shown"
        )
    read = [name for name in _NAMES if image.says(name.encode() + b"\0")]
    return Build(
        name="mimalloc",
        version=version,
        prefix="" if image.symbol("malloc") else "mi_",
        variables=tuple(f"MIMALLOC_{name.upper()}" for name in read),
        places={_TABLE: Place(table.value, f"{table.size}s")} if table else {},
        chosen_by=_chosen_by(image),
        unknown=tuple(unknown),
    )


def _chosen_by(image: Image) -> tuple[str, str] | None:
    if image.symbol(_OF_PYTHON) and not image.says(_FREE_THREADED):
        return "PYTHONMALLOC", "mimalloc"
    return None


def _live(build: Build, view: View, bias: int | None) -> dict[str, AllocatorOption]:
    place = build.places.get(_TABLE)
    if place is None or bias is None:
        return {}
    size = min(struct.calcsize(place.kind), _MOST_ROWS * _ROW.size)
    raw = view.read(place.address + bias, size - size % _ROW.size)
    found = {}
    for value, state, _, pointer, _ in _ROW.iter_unpack(raw or b""):
        name = view.read_text(pointer, 64) if pointer else None
        if name is None or not _OPTION_NAME.fullmatch(name):
            return {}  # the table has an unknown layout
        if state and name in _NAMES:  # 0: mimalloc has not read it yet
            found[name] = AllocatorOption(str(value), "memory")
    return found


def options(build: Build, view: View, bias: int | None) -> dict[str, AllocatorOption]:
    """The options that are set; defaults, which depend on the version, are left out."""
    found = {}
    for variable in build.variables:
        for name in (variable, variable.lower()):
            if name in view.environment:
                option = variable.removeprefix("MIMALLOC_").lower()
                found[option] = AllocatorOption(view.environment[name], name)
    return found | _live(build, view, bias)
