# SPDX-License-Identifier: GPL-2.0-only
"""Scan the images of files, each file once while its result is in use."""

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
    """Facts about an image; addresses are before relocation.

    Attributes:
        builds: its allocators.
        loaded: (file offset, address) of its loaded segments.
        conf_symbols: symbols with settings for jemalloc.
        malloc: addresses of malloc, if the image defines it.
        malloc_slots: slots that hold the address of the malloc that the image calls.
        environ: addresses of the C library's pointers to the environment.
        problem: why the image could not be scanned; "": it was.
    """

    builds: tuple[Build, ...] = ()
    loaded: tuple[tuple[int, int], ...] = ()
    conf_symbols: tuple[Symbol, ...] = ()
    malloc: tuple[int, ...] = ()
    malloc_slots: tuple[int, ...] = ()
    environ: tuple[int, ...] = ()
    problem: str | None = None


_REMEMBERED = 2048
"""Files to keep, about 1 KiB each: more than most hosts use. The cache drops the oldest."""


@dataclass(frozen=True)
class _File:
    """One version of a file: several paths may name it, and a path may later name another."""

    device: int
    inode: int
    size: int
    changed_ns: int
    path: str = field(compare=False)
    name: str = field(compare=False)


def _addresses(image: Image, name: str) -> tuple[int, ...]:
    return tuple({symbol.value for symbol in image.symbols(name) if symbol.name == name})


def read_facts(image: Image) -> ImageFacts:
    """Scan an image.

    Raises:
        DamagedImageError: the image is damaged.
        OSError: the image cannot be read.
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
    """Scan the file at `path`; a file that is in the cache is not read again."""
    try:
        found = Path(path).stat()
        return _facts_in(
            _File(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, path, name)
        )
    except DamagedImageError as error:
        return ImageFacts(problem=str(error))
    except OSError as error:
        return ImageFacts(problem=f"{name} could not be read: {error.strerror}.")
