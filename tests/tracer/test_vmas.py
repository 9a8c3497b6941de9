# SPDX-License-Identifier: GPL-2.0-only
"""Protection keys in vm_flags: only where the kernel has them, and as wide as it has them."""

import ctypes
import errno
from types import SimpleNamespace

import pytest

from tracer.arch import Architecture
from tracer.arch.arm64 import ARM64
from tracer.arch.x86_64 import X86_64
from tracer.census import vmas


@pytest.mark.parametrize(
    ("arch", "result", "mask"),
    [
        (X86_64, 0, 15),
        (ARM64, 0, 7),
        (ARM64, -errno.ENOSYS, 0),
        (X86_64, -errno.ENOSYS, 0),
        (X86_64, -errno.EPERM, 15),
    ],
)
def test_the_mask_is_that_of_the_kernel(
    arch: Architecture, result: int, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def syscall(number: int, *arguments: object) -> int:
        called.append((number, len(arguments)))
        ctypes.set_errno(-result)
        return -1 if result else 0

    monkeypatch.setattr(vmas, "running", lambda: arch)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syscall=syscall))
    assert vmas.key_mask() == mask
    assert called == [(arch.calls["pkey_mprotect"], 4)]


def test_the_running_kernel_answers() -> None:
    assert vmas.key_mask() in (0, 7, 15)
