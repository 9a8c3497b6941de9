# SPDX-License-Identifier: GPL-2.0-only
"""The allocators of the C libraries: glibc and musl, shared or static."""

import re

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build
from tracer.allocator.elf_image import Image
from tracer.allocator.process_memory import View

__all__ = ("glibc_options", "recognise_glibc", "recognise_musl")

_GLIBC_MALLOC = b"corrupted double-linked list\0"
"""A message of malloc/malloc.c: a static program contains it if it contains that malloc."""
_GLIBC_RELEASE = re.compile(rb"GNU C Library \([^)]*\) \w+ release version (\d+\.\d+)")
_MUSL_ERROR = b"No error information\0"
"""The text for errno 0, which only musl has (src/errno/__strerror.h)."""
_MUSL_VERSION = re.compile(rb"(?<=\0)\d\.\d\.\d+\0")
_MUSL_BANNER = re.compile(rb"musl libc \(\w{1,32}\)\n")
_TUNABLES = "GLIBC_TUNABLES"
_MALLOC_TUNABLE = "glibc.malloc."
_VARIABLES = {
    "MALLOC_ARENA_MAX": "arena_max",
    "MALLOC_TRIM_THRESHOLD_": "trim_threshold",
    "MALLOC_MMAP_THRESHOLD_": "mmap_threshold",
    "MALLOC_TOP_PAD_": "top_pad",
    "MALLOC_MMAP_MAX_": "mmap_max",
}
"""Older names of tunables (elf/dl-tunables.list)."""


def recognise_glibc(image: Image) -> Build | None:
    """The malloc of glibc in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    if not image.says(_GLIBC_MALLOC):
        return None
    release = next(image.find(_GLIBC_RELEASE), None)
    unknown = ["settings by mallopt: glibc keeps them in a variable without a symbol"]
    if release is None:
        unknown.append("its version: a statically linked glibc does not contain it")
    return Build(
        name="glibc",
        version=release[1].decode() if release else None,
        variables=(_TUNABLES, *_VARIABLES),
        unknown=tuple(unknown),
    )


def recognise_musl(image: Image) -> Build | None:
    """The musl in an image; raises as `recognise_glibc` does.

    musl has no settings.
    """
    if not image.says(_MUSL_ERROR):
        return None
    versions = set()
    if next(image.find(_MUSL_BANNER), None):  # the dynamic linker contains the version
        versions = {match[0][:-1].decode() for match in image.find(_MUSL_VERSION)}
    version = versions.pop() if len(versions) == 1 else None
    unknown = () if version else ("its version: a statically linked musl does not contain it",)
    return Build("musl", version, unknown=unknown)


def glibc_options(view: View) -> dict[str, AllocatorOption]:
    """The settings in the environment; the newer form of a name wins."""
    found = {}
    for variable, name in _VARIABLES.items():
        if variable in view.environment:
            found[name] = AllocatorOption(view.environment[variable], variable)
    for pair in view.environment.get(_TUNABLES, "").split(":"):
        name, equals, value = pair.partition("=")
        if equals and name.startswith(_MALLOC_TUNABLE):
            found[name.removeprefix(_MALLOC_TUNABLE)] = AllocatorOption(value, _TUNABLES)
    return found
