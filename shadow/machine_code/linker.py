# SPDX-License-Identifier: GPL-2.0-only
"""Links an object file of LLVM into code that runs at any address.

The object has one module, compiled for position-independent code, so nearly every reference is
relative and inside it. The rest are functions of libc; a jump for each, behind the code, takes
its address from the table that `shadow.machine_code.image` fills.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from shadow.machine_code.image import aligned
from shadow.machine_code.relocations import ARCHITECTURES

__all__ = ("Linked", "link")

_PADDING = b"\0"
_WORD = 8
_ALLOCATED, _WRITABLE = 2, 1
_NOT_LOADED = (".eh_frame", ".note")
"""Prefixes of sections that only debuggers and exceptions use."""


@dataclass(frozen=True)
class Linked:
    """Code that runs at any multiple of a page.

    Attributes:
        code: the bytes.
        externals: the functions that it calls through the table behind it.
        symbols: offsets in the code of the functions that the object exports, by name.
    """

    code: bytes
    externals: list[str]
    symbols: dict[str, int]


def _loaded_sections(elf: Any) -> Iterable[tuple[int, Section]]:
    for number, section in enumerate(elf.iter_sections()):
        if section["sh_flags"] & _ALLOCATED and not section.name.startswith(_NOT_LOADED):
            if section["sh_flags"] & _WRITABLE:
                raise ValueError(f"the compiled functions have data of their own: {section.name}")
            yield number, section


def link(elf_object: bytes) -> Linked:
    """Link an object file.

    Args:
        elf_object: a relocatable ELF file.

    Raises:
        ValueError: it needs more than code, constants, and functions of libc.
    """
    elf: Any = ELFFile(io.BytesIO(elf_object))
    if elf["e_machine"] not in ARCHITECTURES:
        raise ValueError(f"compiled functions cannot be linked for {elf.get_machine_arch()}")
    architecture = ARCHITECTURES[elf["e_machine"]]
    code, places = bytearray(), {}
    for number, section in _loaded_sections(elf):
        boundary = max(section["sh_addralign"], 1)
        code += _PADDING * (-len(code) % boundary)
        places[number] = len(code)
        code += section.data()
    symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
    externals = [each.name for each in symbols[1:] if each["st_shndx"] == "SHN_UNDEF"]
    each = architecture.jump_bytes
    code += _PADDING * (-len(code) % each)
    jumps = {name: len(code) + each * number for number, name in enumerate(externals)}
    table = aligned(len(code) + each * len(externals))
    for number, jump in enumerate(jumps.values()):
        code += architecture.jump(jump, table + _WORD * number)

    def address(symbol: Any) -> int:
        where = symbol["st_shndx"]
        if where == "SHN_UNDEF":
            return jumps[symbol.name]
        if where not in places:
            raise ValueError(f"the compiled functions use {symbol.name} in section {where}")
        return int(places[where] + symbol["st_value"])

    for number, place in places.items():
        found = elf.get_section_by_name(".rela" + elf.get_section(number).name)
        for relocation in found.iter_relocations() if found else ():
            kind, at = relocation["r_info_type"], place + relocation["r_offset"]
            if kind not in architecture.patches:
                raise ValueError(f"the compiled functions need a relocation of type {kind}")
            target = address(symbols[relocation["r_info_sym"]]) + relocation["r_addend"]
            architecture.patches[kind](code, at, target)
    exported = {
        each.name: address(each)
        for each in symbols[1:]
        if each["st_info"]["bind"] == "STB_GLOBAL" and each["st_shndx"] != "SHN_UNDEF"
    }
    assert aligned(len(code)) == table
    return Linked(bytes(code), externals, exported)
