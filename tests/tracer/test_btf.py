# SPDX-License-Identifier: GPL-2.0-only
"""Members, functions and enumerators from a synthetic BTF blob."""

import struct
from pathlib import Path

import pytest

from shadow.errors import UnsupportedHostError
from tracer.bpf.btf import Btf, member_offsets

_INT, _STRUCT, _UNION, _ENUM, _FUNC = 1, 4, 5, 6, 12


def _blob() -> bytes:
    """A structure with anonymous members, an enumeration, and a function.

    struct outer { int a; union { int b; struct { int pad; int c; }; }; };
    enum { PG_one = 1, PG_many = 16 };
    """
    strings = b"\0outer\0a\0b\0c\0int\0pad\0PG_one\0PG_many\0fun\0"

    def name(text: str) -> int:
        return strings.index(b"\0" + text.encode() + b"\0") + 1

    def head(label: int, kind: int, members: int, size: int) -> bytes:
        return struct.pack("<III", label, kind << 24 | members, size)

    def member(label: int, kind: int, offset: int) -> bytes:
        return struct.pack("<III", label, kind, offset * 8)

    types = head(name("int"), _INT, 0, 4) + struct.pack("<I", 32)
    types += head(0, _STRUCT, 2, 8) + member(name("pad"), 1, 0) + member(name("c"), 1, 4)
    types += head(0, _UNION, 2, 8) + member(name("b"), 1, 0) + member(0, 2, 0)
    types += head(name("outer"), _STRUCT, 2, 12) + member(name("a"), 1, 0) + member(0, 3, 4)
    types += head(0, _ENUM, 2, 4)
    types += struct.pack("<IiIi", name("PG_one"), 1, name("PG_many"), 16)
    types += head(name("fun"), _FUNC, 0, 1)
    sizes = (0, len(types), len(types), len(strings))
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + types + strings


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux"
    path.write_bytes(_blob())
    return path


def test_members_are_found_through_anonymous_ones(blob: Path) -> None:
    wanted = ["outer.a", "outer.b", "outer.c"]
    assert member_offsets(wanted, blob) == {"outer.a": 0, "outer.b": 4, "outer.c": 8}


def test_existing_functions_and_enumerators_are_found(blob: Path) -> None:
    btf = Btf(blob)
    assert btf.functions(["fun", "a", "no_such"]) == {"fun": 6}
    assert btf.enumerators(["PG_many", "fun", "no_such"]) == {"PG_many": 16}
    assert btf.offsets(["outer.c", "outer.d", "fun.a"]) == {"outer.c": 8}


def test_a_missing_member_is_named(blob: Path) -> None:
    with pytest.raises(UnsupportedHostError, match=r"outer\.d"):
        member_offsets(["outer.d"], blob)


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(64), _blob()[:40]])
def test_invalid_btf_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(UnsupportedHostError):
        member_offsets(["outer.a"], path)


def test_the_error_without_btf_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedHostError, match="CONFIG_DEBUG_INFO_BTF"):
        member_offsets(["outer.a"], tmp_path / "none")
