# SPDX-License-Identifier: GPL-2.0-only
"""Find the image that serves the malloc of a process.

The dynamic linker writes the answer into memory: if an image calls malloc, its global offset
table holds the chosen address, whatever rule decided (LD_PRELOAD, the order of libraries, a
malloc in the executable). A lazily bound slot points back into its own image before the first
call, and so says nothing.
"""

import struct
from collections.abc import Iterable

from tracer.allocator.image_scan import ImageFacts
from tracer.allocator.mapped import Mapped
from tracer.allocator.process_memory import View

__all__ = ("serving_image",)

_POINTER = struct.Struct("<Q")


def serving_image(images: Iterable[tuple[Mapped, ImageFacts]], view: View) -> Mapped | None:
    """The image that defines the malloc in use; None: it could not be read.

    Args:
        images: the images that the process has mapped, the executable first.
        view: the process.
    """
    known = list(images)
    for mapped, facts in known:
        bias = mapped.bias(facts.loaded)
        if bias is None:
            continue
        for slot in facts.malloc_slots:
            raw = view.read(slot + bias, _POINTER.size)
            address = _POINTER.unpack(raw)[0] if raw else 0
            for other, _ in known:
                unbound = other is mapped and address - bias not in facts.malloc
                if other.holds(address) and not unbound:
                    return other
    executable, facts = known[0] if known else (None, ImageFacts())
    alone = len(known) == 1 and not facts.malloc_slots  # statically linked
    return executable if alone and any(not build.prefix for build in facts.builds) else None
