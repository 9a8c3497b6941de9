# SPDX-License-Identifier: GPL-2.0-only
"""How each architecture writes addresses into its code: what the linker needs to know of it.

Sources: System V ABI, AMD64 Architecture Processor Supplement, section Relocation Types; ELF for
the Arm 64-bit Architecture (AAELF64), section Relocation.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64, ENUM_RELOC_TYPE_x64

__all__ = ("ARCHITECTURES", "Architecture")

_PAGE_BITS = 12
_LDST128_ABS_LO12_NC = 299  # pyelftools has no name for it
_Patch = Callable[[bytearray, int, int], None]
"""Writes an address into the code at an offset: code, offset, address."""


@dataclass(frozen=True)
class Architecture:
    """Names as in pyelftools.

    Attributes:
        patches: what each relocation of compiled functions writes, by its number.
        jump: the instructions at an offset that jump to the address in the table at another:
            offset, place in the table.
        jump_bytes: their size, a multiple of 8.
    """

    patches: dict[int, _Patch]
    jump: Callable[[int, int], bytes]
    jump_bytes: int


def _relative(code: bytearray, at: int, address: int) -> None:
    """A signed 32-bit distance."""
    struct.pack_into("<i", code, at, address - at)


def _x86_64_jump(at: int, place: int) -> bytes:
    return b"\xff\x25" + struct.pack("<i", place - at - 6) + b"\xcc\xcc"  # jmp *place(%rip)


def _or_word(code: bytearray, at: int, bits: int) -> None:
    (word,) = struct.unpack_from("<I", code, at)
    struct.pack_into("<I", code, at, word | bits)


def _call(code: bytearray, at: int, address: int) -> None:
    """BL and B: a distance in instructions, 26 bits."""
    distance = address - at
    if not -(1 << 27) <= distance < 1 << 27:
        raise ValueError("the compiled functions are too large for a call")
    _or_word(code, at, distance >> 2 & 0x3FFFFFF)


def _page(code: bytearray, at: int, address: int) -> None:
    """ADRP: a distance in pages of 4 KiB, 21 bits in two parts."""
    pages = (address >> _PAGE_BITS) - (at >> _PAGE_BITS)
    _or_word(code, at, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _in_page(shift: int) -> _Patch:
    """ADD, LDR and STR: the offset in a page of 4 KiB, in units of the access."""

    def patch(code: bytearray, at: int, address: int) -> None:
        _or_word(code, at, (address & (1 << _PAGE_BITS) - 1) >> shift << 10)

    return patch


def _aarch64_jump(at: int, place: int) -> bytes:
    code = bytearray(struct.pack("<IIII", 0x90000010, 0xF9400210, 0xD61F0200, 0xD4200000))
    padded = bytearray(at) + code  # adrp x16; ldr x16, [x16]; br x16; brk
    _page(padded, at, place)
    _in_page(3)(padded, at + 4, place)
    return bytes(padded[at:])


ARCHITECTURES = {
    "EM_X86_64": Architecture(
        {ENUM_RELOC_TYPE_x64[f"R_X86_64_{name}"]: _relative for name in ("PC32", "PLT32")},
        _x86_64_jump,
        8,
    ),
    "EM_AARCH64": Architecture(
        {
            ENUM_RELOC_TYPE_AARCH64[f"R_AARCH64_{name}"]: patch
            for name, patch in {
                "PREL32": _relative,
                "CALL26": _call,
                "JUMP26": _call,
                "ADR_PREL_PG_HI21": _page,
                "ADD_ABS_LO12_NC": _in_page(0),
                "LDST8_ABS_LO12_NC": _in_page(0),
                "LDST16_ABS_LO12_NC": _in_page(1),
                "LDST32_ABS_LO12_NC": _in_page(2),
                "LDST64_ABS_LO12_NC": _in_page(3),
            }.items()
        }
        | {_LDST128_ABS_LO12_NC: _in_page(4)},
        _aarch64_jump,
        16,
    ),
}
