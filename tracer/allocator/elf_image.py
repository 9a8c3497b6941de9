# SPDX-License-Identifier: GPL-2.0-only
"""An ELF image: its symbols, its constants, and its references to other images.

pyelftools reads the headers. numpy reads whole tables, because a symbol table may have half a
million rows. The file is read and not mapped, because a file that is truncated while it is
mapped raises SIGBUS. Any damage raises `DamagedImageError` and nothing else.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from elftools.elf.elffile import ELFFile

from shadow.errors import PtescopeError
from tracer.arch import ARCHITECTURES, Architecture

__all__ = ("DamagedImageError", "Image", "Symbol")

_SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_SYMBOL_TABLES = ("SHT_SYMTAB", "SHT_DYNSYM")
_DYNAMIC = np.dtype([("tag", "<u8"), ("value", "<u8")])
_STRTAB, _STRSZ, _SYMTAB = 5, 10, 6
_RELOCATION_TABLES = ((23, 2), (7, 8))
"""DT_JMPREL and DT_PLTRELSZ, DT_RELA and DT_RELASZ."""
_HEADER_BYTES = {"e_phnum": ("e_phentsize", 56), "e_shnum": ("e_shentsize", 64)}
_BY_MACHINE = {each.elf_machine: each for each in ARCHITECTURES.values()}
_PF_X, _PF_W = 1, 2
_CHUNK = 16 << 20
_LONGEST = 4096
"""Longest match of `Image.find`, bytes."""

Rows = npt.NDArray[Any]


class DamagedImageError(PtescopeError):
    """The file is not a readable ELF image; the message says why."""


class Symbol(NamedTuple):
    """A symbol that the image defines; `value` is an address before relocation."""

    name: str
    value: int
    size: int


class _Segment(NamedTuple):
    kind: str
    flags: int
    offset: int
    address: int
    size: int


class _Table(NamedTuple):
    rows: Rows
    names: bytes


@contextmanager
def _as_damage(name: str) -> Iterator[None]:
    """Turn every error into `DamagedImageError`: a parser may raise anything on damaged input."""
    try:
        yield
    except DamagedImageError:
        raise
    except Exception as error:
        raise DamagedImageError(
            f"{name} is not a readable ELF image ({type(error).__name__}: {error})."
        ) from error


def _array(raw: bytes, kind: np.dtype[np.void]) -> Rows:
    """The complete rows that the bytes hold."""
    return np.frombuffer(raw, kind, len(raw) // kind.itemsize)


def _name_at(names: bytes, offset: int) -> bytes:
    return names[offset : names.find(b"\0", offset)]


class Image:
    """One ELF file of a known architecture, open for reading; the caller closes it.

    Args:
        path: the file.
        name: its name in messages; "": `path`.

    Raises:
        DamagedImageError: the file is not such an ELF file, or is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, path: str, name: str = "") -> None:
        self.name = name or path
        self._file = open(path, "rb")  # noqa: SIM115, closed by close()
        try:
            self._bytes = os.fstat(self._file.fileno()).st_size
            with _as_damage(self.name):
                self._elf = ELFFile(self._file)
                self.arch = self._architecture()
                self._refuse_endless_headers()
                self._segments = [
                    _Segment(s["p_type"], s["p_flags"], s["p_offset"], s["p_vaddr"], s["p_filesz"])
                    for s in self._elf.iter_segments()
                ]
                self._tables = list(self._read_symbol_tables())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Image":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _architecture(self) -> Architecture:
        arch = _BY_MACHINE.get(self._elf["e_machine"])
        if arch is None or self._elf.elfclass != 64 or not self._elf.little_endian:
            known = " nor of ".join(each.name for each in ARCHITECTURES.values())
            raise DamagedImageError(f"{self.name} is an ELF image neither of {known}.")
        return arch

    def _refuse_endless_headers(self) -> None:
        """Refuse headers of size 0, which would make the parser loop for ever."""
        for number, (size, bytes_each) in _HEADER_BYTES.items():
            if self._elf[number] and self._elf[size] != bytes_each:
                raise DamagedImageError(
                    f"{self.name} is damaged: its headers have {self._elf[size]} bytes."
                )
        if self._elf.num_sections() * _HEADER_BYTES["e_shnum"][1] > self._bytes:
            raise DamagedImageError(
                f"{self.name} is damaged: it claims more sections than fit into the file."
            )

    def _read(self, offset: int, size: int) -> bytes:
        """Read at most `size` bytes; fewer at the end of the file."""
        if offset >= self._bytes or size <= 0:
            return b""
        return os.pread(self._file.fileno(), min(size, self._bytes - offset), offset)

    def _read_symbol_tables(self) -> Iterator[_Table]:
        for section in self._elf.iter_sections():
            if section["sh_type"] in _SYMBOL_TABLES:
                strings = self._elf.get_section(section["sh_link"])
                yield _Table(
                    _array(self._read(section["sh_offset"], section["sh_size"]), _SYMBOL),
                    self._read(strings["sh_offset"], strings["sh_size"]),
                )

    def loaded(self) -> list[tuple[int, int]]:
        """(file offset, address before relocation) of each loaded segment."""
        return [(s.offset, s.address) for s in self._segments if s.kind == "PT_LOAD"]

    def at(self, address: int, size: int) -> bytes:
        """The bytes at an address, from the file; fewer if the file ends."""
        for segment in self._segments:
            inside = address - segment.address
            if segment.kind == "PT_LOAD" and 0 <= inside < segment.size:
                return self._read(segment.offset + inside, min(size, segment.size - inside))
        return b""

    def find(self, pattern: re.Pattern[bytes], *, data: bool = False) -> Iterator[re.Match[bytes]]:
        """Matches in the constants of the image, each of at most 4 KiB.

        Constants are in read-only segments. If the linker did not separate them from code,
        the code segment is searched.

        Args:
            pattern: should begin with fixed text, because constants may have 100 MiB.
            data: search the writable data instead.
        """
        loaded = [s for s in self._segments if s.kind == "PT_LOAD"]
        writable = [s for s in loaded if s.flags & _PF_W]
        constant = [s for s in loaded if not s.flags & (_PF_W | _PF_X)]
        for segment in writable if data else constant or loaded:
            size = min(segment.size, self._bytes)
            for begin in range(0, size, _CHUNK):
                text = self._read(segment.offset + begin, min(_CHUNK + _LONGEST, size - begin))
                for match in pattern.finditer(text):
                    if match.start() < _CHUNK:  # else the next chunk has the match
                        yield match

    def says(self, text: bytes) -> bool:
        """Whether the constants contain this text."""
        return next(self.find(re.compile(re.escape(text))), None) is not None

    def symbols(self, suffix: str) -> list[Symbol]:
        """The defined symbols, static and dynamic, with names that end in `suffix`.

        The string tables are searched first, because that is fast. One name may be the end
        of another.
        """
        found: dict[Symbol, None] = {}
        ending = suffix.encode() + b"\0"
        with _as_damage(self.name):
            for rows, names in self._tables:
                at = names.find(ending)
                while at >= 0:
                    first = names.rfind(b"\0", 0, at) + 1
                    here = (rows["name"] >= first) & (rows["name"] <= at) & (rows["section"] != 0)
                    for row in rows[here]:
                        name = _name_at(names, int(row["name"])).decode()
                        found[Symbol(name, int(row["value"]), int(row["size"]))] = None
                    at = names.find(ending, at + 1)
        return list(found)

    def symbol(self, name: str) -> Symbol | None:
        """The defined symbol with exactly this name; None: there is none."""
        return next((symbol for symbol in self.symbols(name) if symbol.name == name), None)

    def linked_slots(self, name: str) -> list[int]:
        """Find where the dynamic linker writes the address of a symbol.

        Returns:
            Addresses before relocation of 8-byte slots (GOT entries and pointers).
        """
        with _as_damage(self.name):
            tags = self._dynamic_tags()
            names = self.at(tags.get(_STRTAB, 0), tags.get(_STRSZ, 0))
            wanted = [
                match.start() for match in re.finditer(re.escape(name.encode()) + b"\0", names)
            ]
            slots: list[int] = []
            for where, length in _RELOCATION_TABLES:
                rows = _array(self.at(tags.get(where, 0), tags.get(length, 0)), _RELOCATION)
                count = int(rows["symbol"].max(initial=0)) + 1
                symbols = _array(self.at(tags.get(_SYMTAB, 0), count * _SYMBOL.itemsize), _SYMBOL)
                chosen = np.flatnonzero(np.isin(symbols["name"], wanted))
                slots += rows["offset"][np.isin(rows["symbol"], chosen)].tolist()
            return slots

    def _dynamic_tags(self) -> dict[int, int]:
        """Tags of the PT_DYNAMIC segment; empty for a static image."""
        for segment in self._segments:
            if segment.kind == "PT_DYNAMIC":
                rows = _array(self._read(segment.offset, segment.size), _DYNAMIC)
                return dict(zip(rows["tag"].tolist(), rows["value"].tolist(), strict=True))
        return {}
