# SPDX-License-Identifier: GPL-2.0-only
"""An allocator as an image contains it, before any process is looked at."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from shadow.snapshot import AllocatorOption
from tracer.allocator.process_memory import View

__all__ = ("Build", "Place", "live_options")


@dataclass(frozen=True)
class Place:
    """Where the value of an option is in memory.

    Attributes:
        address: before relocation.
        kind: a format of `struct` for one value; "?" is shown as true or false.
    """

    address: int
    kind: str


@dataclass(frozen=True)
class Build:
    """One allocator inside one image.

    Attributes:
        name: jemalloc, gperftools, google tcmalloc, mimalloc, glibc, musl, Go or JVM.
        version: as the image has it.
        prefix: what its names have before malloc; "" where it offers malloc itself.
        variables: environment variables that set it.
        config: settings compiled in, where they are known.
        places: where options are in memory, by name.
        unknown: sentences on what could not be found out.
        chosen_by: the environment variable, and the beginning of its value, with which the
            program uses it; None: it needs none.
    """

    name: str
    version: str | None = None
    prefix: str = ""
    variables: tuple[str, ...] = ()
    config: str | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    chosen_by: tuple[str, str] | None = None


def _shown(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def live_options(build: Build, view: View, bias: int | None) -> dict[str, AllocatorOption]:
    """The options that can be read in the process's memory.

    Args:
        build: the allocator.
        view: the process.
        bias: what is added to the image's addresses, if it is known.
    """
    options: dict[str, AllocatorOption] = {}
    if bias is None:
        return options
    for name, place in build.places.items():
        raw = view.read(place.address + bias, struct.calcsize(f"<{place.kind}"))
        if raw is not None:
            (value,) = struct.unpack(f"<{place.kind}", raw)
            text = _shown(value)
            options[name] = AllocatorOption(text, "memory")
    return options
