# SPDX-License-Identifier: GPL-2.0-only
"""The two tcmallocs: gperftools, and google/tcmalloc, which is a different program.

gperftools contains its version as text and exports its flags as symbols, so their live values
can be read. An extension interface that only google/tcmalloc has identifies it
(tcmalloc/internal_malloc_extension.h); google/tcmalloc has no version and reads no environment.
"""

import re

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build, Place
from tracer.allocator.elf_image import Image
from tracer.allocator.process_memory import View

__all__ = ("gperftools_options", "recognise_google", "recognise_gperftools")

_RELEASE = re.compile(rb"gperftools (\d[\d.]*)\0")
_FLAGS = {
    "release_rate": ("27FLAGS_tcmalloc_release_rateE", "d"),
    "disable_memory_release": ("35FLAGS_malloc_disable_memory_releaseE", "?"),
}
_VARIABLES = (
    "TCMALLOC_RELEASE_RATE",
    "TCMALLOC_AGGRESSIVE_DECOMMIT",
    "TCMALLOC_DISABLE_MEMORY_RELEASE",
    "TCMALLOC_HEAP_LIMIT_MB",
)
_DEFAULTS = {"release_rate": "1", "aggressive_decommit": "false", "disable_memory_release": "false"}
"""Defaults since 2.6 (NEWS; aggressive decommit was on in 2.4 and 2.5)."""
_TRUE = ("1", "t", "T", "y", "Y")
"""First letters that mean true to gperftools (src/base/commandlineflags.h)."""


def recognise_gperftools(image: Image) -> Build | None:
    """The gperftools tcmalloc in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    release = next(image.find(_RELEASE), None)
    if release is None or not image.says(b"TCMALLOC_RELEASE_RATE"):
        return None  # only the profiler, no allocator
    places = {}
    for name, (suffix, kind) in _FLAGS.items():
        found = image.symbols(suffix)
        if len(found) == 1:
            places[name] = Place(found[0].value, kind)
    unknown: tuple[str, ...] = ("whether it releases with MADV_FREE: the build decides that",)
    if "release_rate" not in places:
        unknown += ("its live options: the symbols of its flags are stripped",)
    return Build("gperftools", release[1].decode(), "", _VARIABLES, None, places, unknown)


def recognise_google(image: Image) -> Build | None:
    """The google/tcmalloc in an image; raises as `recognise_gperftools` does."""
    if not image.symbols("MallocExtension_Internal_GetNumericProperty"):
        return None
    unknown = ("its version: it has no releases", "its release rate: the program sets it")
    return Build("google tcmalloc", unknown=unknown)


def gperftools_options(
    build: Build, view: View, live: dict[str, AllocatorOption]
) -> dict[str, AllocatorOption]:
    """The settings, each option with the source that decided it."""
    version = tuple(int(part) for part in (build.version or "0").split(".") if part)
    found: dict[str, AllocatorOption] = {}
    if version >= (2, 6):
        found = {name: AllocatorOption(value, "default") for name, value in _DEFAULTS.items()}
    for variable in _VARIABLES:
        if variable in view.environment:
            name, text = variable.removeprefix("TCMALLOC_").lower(), view.environment[variable]
            if _DEFAULTS.get(name) == "false":
                text = "true" if text.startswith(_TRUE) else "false"
            found[name] = AllocatorOption(text, variable)
    return found | live
