# SPDX-License-Identifier: GPL-2.0-only
"""An allocator as an image contains it, independent of any process."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from shadow.snapshot import AllocatorOption
from tracer.allocator.process_memory import View

__all__ = ("Build", "Place", "live_options")


@dataclass(frozen=True)
class Place:
    """Where memory holds the value of an option.

    Attributes:
        address: its address before relocation.
        kind: a `struct` format for one value; "?" is shown as true or false.
    """

    address: int
    kind: str


@dataclass(frozen=True)
class Build:
    """One allocator inside one image.

    Attributes:
        name: jemalloc, gperftools, google tcmalloc, mimalloc, glibc, musl, Go or JVM.
        version: as the image states it.
        prefix: the prefix of its malloc functions; "" if it defines malloc itself.
        variables: environment variables that configure it.
        config: compiled-in settings, if known.
        places: where memory holds options, by name.
        unknown: phrases that say what could not be found.
        chosen_by: the environment variable that makes the program use it, and the start of
            its value; None: none is needed.
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
    """Read options from the memory of the process.

    Args:
        build: the allocator.
        view: the process.
        bias: the load bias of the image, if known.
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
