# SPDX-License-Identifier: GPL-2.0-only
"""What the image of a file holds, found out once for each file, as long as it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tracer.allocator.build import Build
from tracer.allocator.elf_image import DamagedImageError, Image, Symbol
from tracer.allocator.jemalloc import conf_symbols
from tracer.allocator.jemalloc import recognise as recognise_jemalloc
from tracer.allocator.libc import recognise_glibc, recognise_musl
from tracer.allocator.mimalloc import recognise as recognise_mimalloc
from tracer.allocator.runtimes import recognise_go, recognise_jvm
from tracer.allocator.tcmalloc import recognise_google, recognise_gperftools

__all__ = ("ImageFacts", "scan_image", "read_facts")

_RECOGNISERS: tuple[Callable[[Image], Build | None], ...] = (
    recognise_jemalloc,
    recognise_gperftools,
    recognise_google,
    recognise_mimalloc,
    recognise_go,
    recognise_jvm,
    recognise_glibc,
    recognise_musl,
)


@dataclass(frozen=True)
class ImageFacts:
    """What matters of an image; addresses are those before relocation.

    Attributes:
        builds: the allocators in it.
        loaded: (file offset, address) of its loaded segments.
        conf_symbols: symbols by which it brings settings of jemalloc along.
        malloc: addresses of the malloc that it defines.
        malloc_slots: where the address of the malloc that it calls is.
        environ: addresses of the C library's pointer to the environment.
        problem: why nothing is known of it, if that is so.
    """

    builds: tuple[Build, ...] = ()
    loaded: tuple[tuple[int, int], ...] = ()
    conf_symbols: tuple[Symbol, ...] = ()
    malloc: tuple[int, ...] = ()
    malloc_slots: tuple[int, ...] = ()
    environ: tuple[int, ...] = ()
    problem: str | None = None


_REMEMBERED = 2048
"""Files, about 1 KiB each: more than most hosts use; the longest unused go first."""


@dataclass(frozen=True)
class _File:
    """One content of a file: a path may lead to another one later, and several to this one."""

    device: int
    inode: int
    size: int
    changed_ns: int
    path: str = field(compare=False)
    name: str = field(compare=False)


def _addresses(image: Image, name: str) -> tuple[int, ...]:
    return tuple({symbol.value for symbol in image.symbols(name) if symbol.name == name})


def read_facts(image: Image) -> ImageFacts:
    """Look through an image.

    Raises:
        DamagedImageError: it cannot be read.
        OSError: likewise.
    """
    builds = [recognise(image) for recognise in _RECOGNISERS]
    return ImageFacts(
        builds=tuple(build for build in builds if build),
        loaded=tuple(image.loaded()),
        conf_symbols=tuple(conf_symbols(image)),
        malloc=_addresses(image, "malloc"),
        environ=_addresses(image, "environ"),
        malloc_slots=tuple(image.linked_slots("malloc")),
    )


@lru_cache(_REMEMBERED)
def _facts_in(file: _File) -> ImageFacts:
    with Image(file.path, file.name) as image:
        return read_facts(image)


def scan_image(path: str, name: str) -> ImageFacts:
    """What the file at `path` holds; a file that was looked at before is not read again."""
    try:
        found = Path(path).stat()
        return _facts_in(
            _File(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, path, name)
        )
    except DamagedImageError as error:
        return ImageFacts(problem=str(error))
    except OSError as error:
        return ImageFacts(problem=f"{name} could not be read: {error.strerror}.")
