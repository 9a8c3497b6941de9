# SPDX-License-Identifier: GPL-2.0-only
"""The fixed address ranges of sanitizer shadows on x86-64 Linux, from compiler-rt.

A range counts only if the process has mappings at exactly the fixed borders. A mapping of
another program inside such a range is not mistaken for a shadow.

Sources, all in compiler-rt/lib of LLVM, which GCC copies: asan/asan_mapping.h (x86_64:
kHighShadow, ShadowGap and LowShadow for the offset 0x7fff8000), asan/asan_allocator.h
(kAllocatorSpace), tsan/rtl/tsan_platform.h (Mapping48AddressSpace: kShadowBeg, kMetaShadowBeg),
msan/msan.h (kMemoryLayout of x86_64). The layout of MSan has not been verified with a running
program.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shadow.mapping_names import MappingKind

__all__ = ("SanitizerRange", "sanitizer_ranges")


@dataclass(frozen=True)
class SanitizerRange:
    """[start, end) of the address space, and its use by a sanitizer."""

    start: int
    end: int
    name: str
    kind: MappingKind = MappingKind.SANITIZER


@dataclass(frozen=True)
class _Layout:
    """The layout of a sanitizer: fixed start addresses of its mappings, and its ranges."""

    borders: tuple[int, ...]
    ranges: tuple[SanitizerRange, ...]


_TIB = 1 << 40
_MARGIN = 1 << 20
"""The allocator stores data about its regions directly behind them (AdditionalSize)."""
_LAYOUTS = (
    _Layout(  # compiler-rt maps the low shadow with one extra page in front
        (0x7FFF_7000, 0x8FFF_7000, 0x0200_8FFF_7000),
        (
            SanitizerRange(0x7FFF_7000, 0x8FFF_7000, "ASan shadow"),
            SanitizerRange(0x8FFF_7000, 0x0200_8FFF_7000, "ASan shadow gap"),
            SanitizerRange(0x0200_8FFF_7000, 0x1000_7FFF_8000, "ASan shadow"),
            # The first range since LLVM 18, the second one before.
            SanitizerRange(0x50 * _TIB, 0x54 * _TIB + _MARGIN, "ASan heap", MappingKind.ALLOCATOR),
            SanitizerRange(0x60 * _TIB, 0x64 * _TIB + _MARGIN, "ASan heap", MappingKind.ALLOCATOR),
        ),
    ),
    _Layout(
        (0x01 * _TIB, 0x20 * _TIB, 0x30 * _TIB),
        (
            SanitizerRange(0x01 * _TIB, 0x20 * _TIB, "TSan shadow"),
            SanitizerRange(0x30 * _TIB, 0x40 * _TIB, "TSan metadata"),
            SanitizerRange(0x7B * _TIB, 0x7C * _TIB, "TSan heap", MappingKind.ALLOCATOR),
        ),
    ),
    _Layout(
        (0x01 * _TIB, 0x10 * _TIB, 0x50 * _TIB),
        (
            SanitizerRange(0x01 * _TIB, 0x10 * _TIB, "MSan shadow and origins"),
            SanitizerRange(0x11 * _TIB, 0x40 * _TIB, "MSan shadow and origins"),
            SanitizerRange(0x50 * _TIB, 0x51 * _TIB, "MSan shadow and origins"),
            SanitizerRange(0x60 * _TIB, 0x61 * _TIB, "MSan shadow and origins"),
            SanitizerRange(0x70 * _TIB, 0x74 * _TIB, "MSan heap", MappingKind.ALLOCATOR),
        ),
    ),
)


def sanitizer_ranges(starts: npt.NDArray[np.int64]) -> tuple[SanitizerRange, ...]:
    """The ranges of the sanitizer of a process; empty without a sanitizer.

    Args:
        starts: (n,) start addresses of the mappings of the process, ascending.
    """
    for layout in _LAYOUTS:
        if np.isin(layout.borders, starts).all():
            return layout.ranges
    return ()
