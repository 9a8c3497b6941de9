# SPDX-License-Identifier: GPL-2.0-only
"""The names of generated code come from a file that anybody may write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.stacks.perf_map import PerfMap

_CODE = 0x7000_0000


@pytest.fixture
def path() -> Iterator[Path]:
    """The map of this process."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    assert not path.exists()
    yield path
    path.unlink(missing_ok=True)


def _name(address: int = _CODE) -> str | None:
    return PerfMap(os.getpid()).name(address)


def test_the_line_around_an_address_names_it(path: Path) -> None:
    path.write_text(f"{_CODE:x} 20 first one\n{_CODE + 0x20:x} 10 second\n")
    assert _name() == _name(_CODE + 0x1F) == "first one"
    assert _name(_CODE + 0x20) == "second"
    assert _name(_CODE + 0x30) is None
    assert _name(_CODE - 1) is None


def test_later_lines_count(path: Path) -> None:
    path.write_text(f"{_CODE:x} 20 old\n{_CODE:x} 20 new\n")
    assert _name() == "new"


def test_a_file_that_grows_is_read_again(path: Path) -> None:
    path.write_text(f"{_CODE:x} 20 old\n")
    found = PerfMap(os.getpid())
    assert found.name(_CODE) == "old"
    with path.open("a") as file:
        file.write(f"{_CODE + 0x20:x} 20 more\n")
    found._next = 0.0
    assert found.name(_CODE + 0x20) == "more"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"what",
        b"-1 20 negative",
        b"7000000g 20 no number",
        b"70000000 20",
        b"70000000 0 nothing",
        b"70000000  20 two spaces",
        b"0x70000000 0x20 prefixed",
        b"1" * 40 + b" 20 too far",
        b"70000000 " + b"f" * 40 + b" too long",
        b"70000000 20 " + b"x" * 10_000,
        b"\xff\xfe\x00",
    ],
)
def test_other_lines_are_skipped(path: Path, line: bytes) -> None:
    path.write_bytes(line + b"\n" + b"%x 20 good\n" % (_CODE + 0x100))
    assert _name() is None
    assert _name(_CODE + 0x100) == "good"


def test_only_regular_files_of_the_user_are_read(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(f"{_CODE:x} 20 name\n")
    path.symlink_to(other)
    assert _name() is None
    path.unlink()
    os.mkfifo(path)
    assert _name() is None
    path.unlink()
    if os.geteuid() == 0:
        path.write_text(f"{_CODE:x} 20 name\n")
        os.chown(path, 12345, 12345)
        assert _name() is None


def test_no_file_and_no_process_give_no_name() -> None:
    assert _name() is None
    assert PerfMap((1 << 22) + 1).name(_CODE) is None
