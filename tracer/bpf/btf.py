# SPDX-License-Identifier: GPL-2.0-only
"""BTF, the kernel's type information: offsets of structure members, functions, enumerators.

Headers of another build would silently give wrong offsets; BTF describes the running kernel
(Documentation/bpf/btf.rst). The reader indexes the type section once, and decodes only the
types with the requested names.
"""

import struct
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shadow.errors import UnsupportedHostError

__all__ = ("VMLINUX", "Btf", "kernel_btf", "member_offsets")

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO = 3, 4, 5, 6, 13
_INT, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 1, 14, 15, 17, 19
_FIXED_EXTRA = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EXTRA_PER_MEMBER = {
    _STRUCT: 12,
    _UNION: 12,
    _ENUM: 8,
    _FUNC_PROTO: 8,
    _DATASEC: 12,
    _ENUM64: 12,
}
_FUNC = 12
_ENUMERATOR = struct.Struct("<Ii")


class Btf:
    """The type section of a BTF file, indexed by type id.

    Args:
        source: the file.

    Raises:
        UnsupportedHostError: the file is missing or is not valid BTF.
    """

    def __init__(self, source: Path) -> None:
        try:
            self._index(source.read_bytes())
        except OSError as error:
            raise UnsupportedHostError(
                f"No kernel type information ({source}: {error.strerror}); "
                "use a kernel built with CONFIG_DEBUG_INFO_BTF."
            ) from error
        except (struct.error, ValueError, IndexError) as error:
            raise UnsupportedHostError(f"{source} cannot be decoded as BTF: {error}.") from error

    def _index(self, raw: bytes) -> None:
        magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise ValueError(f"its magic is {magic:#x}")
        self._raw = raw
        self._strings = header + str_off
        self._end = self._strings + str_len
        offsets, names, infos = [0], [0], [0]
        position, end = header + type_off, header + type_off + type_len
        while position < end:
            name, info, _ = _TYPE.unpack_from(raw, position)
            offsets.append(position)
            names.append(name)
            infos.append(info)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            position += _TYPE.size + _FIXED_EXTRA.get(kind, 0)
            position += count * _EXTRA_PER_MEMBER.get(kind, 0)
        self._offsets, self._names = np.array(offsets), np.array(names)
        self._kinds = np.array(infos) >> 24 & 0x1F

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._raw[start : self._raw.index(b"\0", start)].decode()

    def _keys(self, names: Collection[str]) -> set[int]:
        """Offsets of these names in the string section, for the names that it contains."""
        places = (self._raw.find(b"\0" + name.encode() + b"\0", self._strings) for name in names)
        return {place + 1 - self._strings for place in places if place >= 0}

    def _of_kind(self, kind: int) -> npt.NDArray[np.intp]:
        """The ids of all types of a kind."""
        return np.flatnonzero(self._kinds == kind)

    def _ids(self, names: Collection[str], kind: int) -> dict[str, int]:
        ids = self._of_kind(kind)
        found = ids[np.isin(self._names[ids], list(self._keys(names)))]
        return {self._name(int(self._names[number])): int(number) for number in found}

    def functions(self, names: Collection[str]) -> dict[str, int]:
        """Type ids of the functions with these names, for those that exist."""
        return self._ids(names, _FUNC)

    def enumerators(self, names: Collection[str]) -> dict[str, int]:
        """Values of these enumerators of 32-bit enumerations, for those that exist."""
        keys = self._keys(names)
        found = {}
        for position in self._offsets[self._of_kind(_ENUM)].tolist():
            _, info, _ = _TYPE.unpack_from(self._raw, position)
            for i in range(info & 0xFFFF):
                at = position + _TYPE.size + i * _ENUMERATOR.size
                name, value = _ENUMERATOR.unpack_from(self._raw, at)
                if name in keys:
                    found[self._name(name)] = value
        return found

    def offsets(self, members: Collection[str]) -> dict[str, int]:
        """Byte offsets of `structure.member` names, for those that exist."""
        ids = self._ids({full.split(".")[0] for full in members}, _STRUCT)
        found = {}
        for full in members:
            structure, member = full.split(".")
            offset = self._member(ids[structure], member) if structure in ids else None
            if offset is not None:
                found[full] = offset
        return found

    def require(self, members: Collection[str]) -> dict[str, int]:
        """Byte offsets of `structure.member` names.

        Raises:
            UnsupportedHostError: a structure or member does not exist.
        """
        found = self.offsets(members)
        for full in members:
            if full not in found:
                raise UnsupportedHostError(f"This kernel's BTF has no {full}.")
        return found

    def _member(self, type_id: int, wanted: str) -> int | None:
        """Byte offset of a member, which may lie in an anonymous member."""
        position = int(self._offsets[type_id])
        _, info, _ = _TYPE.unpack_from(self._raw, position)
        for i in range(info & 0xFFFF):
            at = position + _TYPE.size + i * _MEMBER.size
            name, member_type, bits = _MEMBER.unpack_from(self._raw, at)
            offset: int = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if name == 0:
                inner = (
                    self._member(member_type, wanted) if self._is_composite(member_type) else None
                )
                if inner is not None:
                    return offset + inner
            elif self._name(name) == wanted:
                return offset
        return None

    def _is_composite(self, type_id: int) -> bool:
        return int(self._kinds[type_id]) in (_STRUCT, _UNION)


@cache
def kernel_btf() -> Btf:
    """The running kernel's BTF; `cache_clear` frees its 8 MiB.

    Raises:
        UnsupportedHostError: see `Btf`.
    """
    return Btf(VMLINUX)


def member_offsets(members: list[str], source: Path | None = None) -> dict[str, int]:
    """Byte offsets of `structure.member` names.

    Args:
        members: names such as `task_struct.mm`.
        source: a BTF file; None: the running kernel's.

    Raises:
        UnsupportedHostError: BTF is missing, or lacks a structure or member.
    """
    return (Btf(source) if source else kernel_btf()).require(members)
