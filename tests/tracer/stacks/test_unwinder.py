# SPDX-License-Identifier: GPL-2.0-only
"""libdw: present, missing, and what the unwinder does with impossible samples."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shadow.errors import UnsupportedHostError
from tracer.cli import main
from tracer.stacks import libdw as library
from tracer.stacks.callbacks import compile_callbacks
from tracer.stacks.messages import Batch, MessageBuffer, Order, packed
from tracer.stacks.modules import CodeMap, code_map
from tracer.stacks.naming import Namer, demangler
from tracer.stacks.scratch import MOST_FRAMES
from tracer.stacks.unwinder import RBP, RIP, RSP, Unwinder

_ROOT = Path(__file__).parents[3]


def _has_libdw() -> bool:
    try:
        library.libdw()
    except UnsupportedHostError:
        return False
    return True


needs_libdw = pytest.mark.skipif(not _has_libdw(), reason="libdw is not installed")


@pytest.mark.parametrize("command", ["attach", "record"])
def test_without_libdw_a_message_names_the_package(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library.libdw.cache_clear()
    monkeypatch.setattr(library, "LIBRARY", "libno-such-dw.so.1")
    try:
        status = main([command, "-p", str(os.getpid()), "--stacks"])
    finally:
        library.libdw.cache_clear()
    assert status == 4
    said = capsys.readouterr().err
    assert "libdw1" in said
    assert "leave out --stacks" in said
    assert len(said.splitlines()) == 1


def test_a_rate_needs_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", "-p", "1", "--stack-rate", "5"]) == 2
    assert "--stack-rate needs --stacks" in capsys.readouterr().err


@needs_libdw
def test_impossible_samples_end_with_what_is_known() -> None:
    unwinder = Unwinder(os.getpid(), compile_callbacks())
    code = code_map(os.getpid())
    unwinder.report(code)
    namer = Namer(unwinder, demangler())
    random = np.random.default_rng(3)
    inside = next(m for m in code.modules if m.short_name == "libc.so.6")
    for number in range(3000):
        registers = random.integers(0, 1 << 63, 21).astype(np.uint64)
        if number % 3:
            registers[RIP] = random.integers(inside.start, inside.end)
            registers[RSP] = 0x7FFF_0000_0000 + 8 * random.integers(0, 100)
            registers[RBP] = registers[RSP] + np.uint64(8 * random.integers(0, 1000))
        stack = random.integers(inside.start, inside.end, 1024).astype(np.uint64)
        size = int(random.choice([0, 8, 1024, 4096, 8192]))
        found = unwinder.unwind(registers, stack, size)
        assert 0 < len(found.pcs) <= MOST_FRAMES
        if found.words is not None:
            assert len(found.words) == len(found.pcs) - 1
            assert all(0 <= index < size // 8 for index, _ in found.words)
        str(namer.frame(found.pcs[-1] & (1 << 64) - 1, code))
    unwinder.close()


@needs_libdw
def test_a_hostile_image_gives_no_frames_but_no_crash(tmp_path: Path) -> None:
    """The image of a mapping is cut, or random after its header."""
    image = Path("/bin/true").read_bytes()
    random = np.random.default_rng(5)
    variants = [image[: len(image) // 2], image[:64], b"\x7fELF" + random.bytes(4000)]
    variants += [image[:64] + random.bytes(len(image) - 64) for _ in range(20)]
    program = (
        "import sys; sys.path.append(sys.argv[1]); from tests.tracer.stacks import hostile_image; "
        "hostile_image.unwind_in(sys.argv[2])"
    )
    for number, variant in enumerate(variants):
        path = tmp_path / f"image-{number}"
        path.write_bytes(variant)
        done = subprocess.run(
            [sys.executable, "-c", program, str(_ROOT), str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@needs_libdw
def test_names_are_demangled_and_bounded() -> None:
    demangle = demangler()
    assert demangle(b"_ZN3foo3barEi") in (b"foo::bar(int)", None)
    assert demangle(b"main") is None
    assert demangle(b"_Z" + b"\xff" * 100) is None
    unwinder = Unwinder(os.getpid(), compile_callbacks())
    unwinder.report(CodeMap([]))
    frame = Namer(unwinder, demangle).frame(0x1234, CodeMap([]))
    assert str(frame) == "[unknown]+0x1234"
    code = code_map(os.getpid())
    unwinder.report(code)
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert address
    frame = Namer(unwinder, demangle).frame(address, code)
    assert (frame.module, "getpid" in (frame.function or "")) == ("libc.so.6", True)


def test_messages_survive_any_cut() -> None:
    data = b"".join(packed(Order(follow=number, flush=7)) for number in range(50))
    for step in (1, 3, 64, len(data)):
        buffer, found = MessageBuffer(Order), []
        for at in range(0, len(data), step):
            found += list(buffer.messages(data[at : at + step]))
        assert [order.follow for order in found] == list(range(50))


@pytest.mark.parametrize("data", [b"\xff" * 8, packed([1, 2]), packed({"frames": 3})])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|Expected|missing"):
        list(MessageBuffer(Batch).messages(data))
