"""Offsets of structure members, from the kernel's own type information.

Headers of another build would give wrong offsets without a word; BTF is the
running kernel's (Documentation/bpf/btf.rst). Only what is asked for is
decoded: the type section is walked once, the named structures are read.
"""

import struct
from pathlib import Path

from shadow.errors import UnsupportedHostError

__all__ = ("VMLINUX", "member_offsets")

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


class _Btf:
    """The type section, indexed by type id."""

    def __init__(self, raw: bytes) -> None:
        magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise UnsupportedHostError(f"{VMLINUX} is not BTF (magic {magic:#x}).")
        self._raw = raw
        self._strings = header + str_off
        self._end = self._strings + str_len
        self._offsets = [0]
        position, end = header + type_off, header + type_off + type_len
        while position < end:
            self._offsets.append(position)
            _, info, _ = _TYPE.unpack_from(raw, position)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            position += _TYPE.size + _FIXED_EXTRA.get(kind, 0)
            position += count * _EXTRA_PER_MEMBER.get(kind, 0)

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        return self._raw[start : self._raw.index(b"\0", start)].decode()

    def structures(self, names: set[str]) -> dict[str, int]:
        """Type ids of the structures with these names."""
        wanted = {self._raw.index(b"\0" + name.encode() + b"\0", self._strings) for name in names}
        keys = {offset + 1 - self._strings for offset in wanted}
        found = {}
        for number, position in enumerate(self._offsets[1:], 1):
            name, info, _ = _TYPE.unpack_from(self._raw, position)
            if name in keys and info >> 24 & 0x1F == _STRUCT:
                found[self._name(name)] = number
        return found

    def member(self, type_id: int, wanted: str) -> int | None:
        """Byte offset of a member, looked up through anonymous members too."""
        position = self._offsets[type_id]
        _, info, _ = _TYPE.unpack_from(self._raw, position)
        for i in range(info & 0xFFFF):
            at = position + _TYPE.size + i * _MEMBER.size
            name, member_type, bits = _MEMBER.unpack_from(self._raw, at)
            offset: int = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            if name == 0:
                inner = (
                    self.member(member_type, wanted) if self._is_composite(member_type) else None
                )
                if inner is not None:
                    return offset + inner
            elif self._name(name) == wanted:
                return offset
        return None

    def _is_composite(self, type_id: int) -> bool:
        _, info, _ = _TYPE.unpack_from(self._raw, self._offsets[type_id])
        return info >> 24 & 0x1F in (_STRUCT, _UNION)


def member_offsets(members: list[str], source: Path = VMLINUX) -> dict[str, int]:
    """Byte offsets of `structure.member` names.

    Args:
        members: names such as `task_struct.mm`.
        source: a BTF file.

    Raises:
        UnsupportedHostError: there is no BTF, or a structure or member is not in it.
    """
    try:
        btf = _Btf(source.read_bytes())
        ids = btf.structures({member.split(".")[0] for member in members})
    except OSError as error:
        raise UnsupportedHostError(
            f"No kernel type information ({source}: {error.strerror}); "
            "this needs a kernel built with CONFIG_DEBUG_INFO_BTF."
        ) from error
    except (struct.error, ValueError, IndexError) as error:
        raise UnsupportedHostError(f"{source} cannot be decoded as BTF: {error}.") from error
    offsets = {}
    for full in members:
        structure, member = full.split(".")
        offset = btf.member(ids[structure], member) if structure in ids else None
        if offset is None:
            raise UnsupportedHostError(f"This kernel's BTF has no {full}.")
        offsets[full] = offset
    return offsets
