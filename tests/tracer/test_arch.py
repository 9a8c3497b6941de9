# SPDX-License-Identifier: GPL-2.0-only
"""The descriptions of architectures equal the headers of linux-libc-dev, if they are installed."""

import ctypes
import re
from pathlib import Path

import pytest

from shadow.geometry import MODELLED
from tracer.arch import ARCHITECTURES, Architecture, running
from tracer.arch.arm64 import ARM64
from tracer.arch.x86_64 import X86_64
from tracer.bpf.compile import BPF_FOLDER
from tracer.census.entries import FORMATS

_HEADERS = {
    X86_64.name: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    ARM64.name: Path("/usr/include/asm-generic/unistd.h"),
}
_NEWER = {"map_shadow_stack", "mseal"}
"""Calls that the headers of Linux 6.1 lack; they have one number on all architectures."""
_ALL = pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.name)


def _numbers(header: Path) -> dict[str, int]:
    """The numbers of system calls in a header; asm-generic names some of them __NR3264."""
    form = r"^#define\s+__NR(?:3264)?_(\w+)\s+([0-9]+)\b"
    return {name: int(value) for name, value in re.findall(form, header.read_text(), re.MULTILINE)}


@_ALL
def test_the_calls_are_those_of_the_headers(arch: Architecture) -> None:
    header = _HEADERS[arch.name]
    if not header.exists():
        pytest.skip(f"{header} is missing")
    defined = _numbers(header)
    for name, number in arch.calls.items():
        if name in defined or name not in _NEWER:
            assert defined[name] == number, name
        else:
            assert number == X86_64.calls[name]


def test_arm64_lacks_only_calls_that_others_replace() -> None:
    assert X86_64.calls.keys() - ARM64.calls.keys() == {"open", "creat"}
    assert not ARM64.calls.keys() - X86_64.calls.keys()


@_ALL
def test_every_modelled_architecture_is_described(arch: Architecture) -> None:
    assert {each.name for each in ARCHITECTURES.values()} == {each.arch for each in MODELLED}
    assert (BPF_FOLDER / "probes" / f"{arch.probes}.c").exists()
    assert arch.name in FORMATS


def test_the_running_architecture_makes_system_calls_by_its_numbers() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(running().calls["munlockall"]) == 0


@pytest.mark.parametrize(
    ("arch", "code", "number"),
    [
        (X86_64, "b8d1000000c3", 209),
        (X86_64, "f30f1efab8d1000000c3", 209),
        (X86_64, "b8d100000090", None),
        (ARM64, "201a8052c0035fd6", 209),  # mi_version of libmimalloc.so.2 in Debian 12
        (ARM64, "5f2403d5201a8052c0035fd61f2003d5", 209),
        (ARM64, "e0ff9f52c0035fd6", 65535),
        (ARM64, "211a8052c0035fd6", None),  # mov w1
        (ARM64, "201a80d2c0035fd6", None),  # mov x0
        (ARM64, "201a80521f2003d5", None),
        (ARM64, "201a8052", None),
        (ARM64, "5f2403d5", None),
        (ARM64, "20", None),
        (ARM64, "", None),
        (X86_64, "", None),
    ],
)
def test_the_number_that_a_function_returns(arch: Architecture, code: str, number: int) -> None:
    assert arch.returned_number(bytes.fromhex(code)) == number
