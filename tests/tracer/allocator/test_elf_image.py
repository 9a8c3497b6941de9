# SPDX-License-Identifier: GPL-2.0-only
"""ELF images, intact and damaged; intact ones are compared with binutils."""

import re
import subprocess
from pathlib import Path

import pytest
from elftools.elf.enums import ENUM_E_MACHINE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.allocator.elf_image import Image
from tracer.allocator.image_scan import ImageFacts, scan_image
from tracer.arch import ARCHITECTURES

_LIBRARY = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
_WHOLE = Path(_LIBRARY).read_bytes()
_HEADERS = 4096
"""Bytes at the start of a file, which has most of the fields that a parser trusts."""


def _nm(path: str) -> dict[str, int]:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {name.split("@")[0]: int(value, 16) for value, _, name in rows}


def test_symbols_equal_those_of_nm() -> None:
    expected = _nm(_LIBRARY)
    with Image(_LIBRARY) as image:
        found = {symbol.name: symbol.value for symbol in image.symbols("alloc")}
    assert found == {name: value for name, value in expected.items() if name.endswith("alloc")}
    assert "malloc" in found


def test_a_name_is_found_at_the_end_of_another() -> None:
    with Image(_LIBRARY) as image:
        names = {symbol.name for symbol in image.symbols("malloc_conf")}
        assert image.symbol("conf") is None
    assert names == {"malloc_conf"}


def test_calls_of_malloc_equal_those_of_readelf() -> None:
    program = "/usr/bin/redis-server"
    listed = subprocess.run(["readelf", "-rW", program], capture_output=True, text=True, check=True)
    rows = re.findall(r"^([0-9a-f]{16}) .*? malloc(?:@\S+)? \+ 0$", listed.stdout, re.M)
    with Image(program) as image:
        assert sorted(image.linked_slots("malloc")) == sorted(int(row, 16) for row in rows)
    assert rows


def test_text_is_found_across_read_boundaries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pattern = re.compile(rb"<jemalloc>: [^\0]*")
    with Image(_LIBRARY) as image:
        at_once = [match[0] for match in image.find(pattern)]
        monkeypatch.setattr("tracer.allocator.elf_image._CHUNK", 4096)
        assert [match[0] for match in image.find(pattern)] == at_once
    assert len(at_once) > 20


def _for_machine(path: Path, machine: int, order: int = 1) -> str:
    """A copy of the library whose header names another machine and byte order."""
    copy = bytearray(_WHOLE)
    copy[5] = order
    copy[18:20] = machine.to_bytes(2, "little" if order == 1 else "big")
    path.write_bytes(copy)
    return str(path)


def test_images_of_every_architecture_are_scanned(tmp_path: Path) -> None:
    """A host may run programs of only one; the tables have one layout on all."""
    builds = scan_image(_LIBRARY, _LIBRARY).builds
    assert [build.name for build in builds] == ["jemalloc"]
    for arch in ARCHITECTURES.values():
        path = _for_machine(tmp_path / arch.name, ENUM_E_MACHINE[arch.elf_machine])
        with Image(path) as image:
            assert image.arch is arch
        assert scan_image(path, "image").builds == builds


@pytest.mark.parametrize(("machine", "order"), [(243, 1), (183, 2)])
def test_an_image_of_an_unknown_architecture_is_no_image(
    tmp_path: Path, machine: int, order: int
) -> None:
    facts = scan_image(_for_machine(tmp_path / "image", machine, order), "image")
    assert facts.builds == ()
    assert facts.problem


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", _WHOLE[:100], _WHOLE[:5000]])
def test_an_incomplete_image_is_an_error_or_has_no_allocator(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    facts = scan_image(str(path), "image")
    assert facts.builds == ()
    assert facts.problem is None or "image" in facts.problem


def test_a_missing_file_is_an_error() -> None:
    assert "could not be read" in (scan_image("/nowhere", "/nowhere").problem or "")


_FLIPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, _HEADERS), st.integers(0, len(_WHOLE) - 1)), st.integers(0, 255)
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=_FLIPS, cut=st.one_of(st.none(), st.integers(0, len(_WHOLE))))
def test_a_damaged_image_gives_facts_or_a_damaged_image_error(
    tmp_path: Path, flips: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(_WHOLE)
    for at, value in flips:
        damaged[at] = value
    path = tmp_path / "damaged"
    path.write_bytes(bytes(damaged[:cut]))
    facts = scan_image(str(path), "damaged")
    assert isinstance(facts, ImageFacts)
    assert facts.problem is None or facts.builds == ()
    assert facts.problem is None or facts.problem.startswith("damaged ")


def test_a_file_is_read_once_under_any_path_and_again_when_it_changes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(Path("/bin/true").read_bytes())
    second.hardlink_to(first)
    facts = scan_image(str(first), "first")
    assert facts.problem is None
    assert scan_image(str(second), "second") is facts
    first.write_bytes(b"something else")
    assert scan_image(str(second), "second").problem is not None
