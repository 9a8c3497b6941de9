# SPDX-License-Identifier: GPL-2.0-only
"""Where sanitizers keep their shadow on x86-64 Linux: fixed ranges, known from compiler-rt.

A range counts only where the process has mapped its fixed borders exactly, so that a mapping
of another program that happens to lie there is not called a shadow.

Sources, all in compiler-rt/lib of LLVM, which GCC copies: asan/asan_mapping.h (x86_64:
kHighShadow, ShadowGap and LowShadow for the offset 0x7fff8000), asan/asan_allocator.h
(kAllocatorSpace), tsan/rtl/tsan_platform.h (Mapping48AddressSpace: kShadowBeg, kMetaShadowBeg),
msan/msan.h (kMemoryLayout of x86_64). Only MSan's was not seen on a running program.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shadow.mapping_names import MappingKind

__all__ = ("SanitizerRange", "sanitizer_ranges")


@dataclass(frozen=True)
class SanitizerRange:
    """[start, end) of the address space, and what a sanitizer keeps there."""

    start: int
    end: int
    name: str
    kind: MappingKind = MappingKind.SANITIZER


@dataclass(frozen=True)
class _Layout:
    """A sanitizer: the fixed addresses at which mappings of it begin, and its ranges."""

    borders: tuple[int, ...]
    ranges: tuple[SanitizerRange, ...]


_TIB = 1 << 40
_MARGIN = 1 << 20
"""What the allocator keeps of its regions lies right behind them (AdditionalSize)."""
_LAYOUTS = (
    _Layout(  # the low shadow begins a page earlier: it is mapped with a page of margin
        (0x7FFF_7000, 0x8FFF_7000, 0x0200_8FFF_7000),
        (
            SanitizerRange(0x7FFF_7000, 0x8FFF_7000, "ASan shadow"),
            SanitizerRange(0x8FFF_7000, 0x0200_8FFF_7000, "ASan shadow gap"),
            SanitizerRange(0x0200_8FFF_7000, 0x1000_7FFF_8000, "ASan shadow"),
            # From LLVM 18 on the former, before it the latter.
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
    """The ranges of the sanitizer that a process runs with; none where it runs with none.

    Args:
        starts: (n,) first addresses of its mappings, ascending.
    """
    for layout in _LAYOUTS:
        if np.isin(layout.borders, starts).all():
            return layout.ranges
    return ()
