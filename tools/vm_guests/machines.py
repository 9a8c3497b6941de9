# SPDX-License-Identifier: GPL-2.0-only
"""The machines that QEMU emulates for guests, one for each architecture."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

__all__ = ("AMD64", "MACHINES", "Machine")


@dataclass(frozen=True)
class Machine:
    """An architecture as QEMU and Debian know it.

    Attributes:
        qemu: the emulator.
        package: the Debian package of the emulator.
        board: the emulated board.
        cpu: the emulated CPU.
        console: the serial console, as the kernel names it.
        debian: the architecture of Debian's packages.
        flavour: the last part of the names of its kernels.
        uname: the name that uname has for it.
        page: bytes of a page.
        root: whether a guest has a root of its own; otherwise it sees the host's.
        environment: variables of every command.
    """

    qemu: str
    package: str
    board: str
    cpu: str
    console: str
    debian: str
    flavour: str
    uname: str
    page: int
    root: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def cpu_with(self, levels: int) -> str:
        """The CPU for page tables of so many levels; arm64 has those of its kernel."""
        return self.cpu + (",la57=off" if self.flavour == "amd64" and levels == 4 else "")

    @property
    def python(self) -> Path | None:
        """The Python of a root of its own; None: the host's."""
        return Path("/usr/bin/python3") if self.root else None


# QEMU 7.2 emulates AVX2 wrongly: 63 of 300 sorts of indices by numpy were not sorted.
AMD64 = Machine(
    *("qemu-system-x86_64", "qemu-system-x86", "q35", "max,avx=off,avx2=off", "ttyS0"),
    *("amd64", "amd64", "x86_64", 1 << 12),
    environment={"PATH": os.environ.get("PATH", os.defpath)},
)


def _arm64(flavour: str, page: int) -> Machine:
    """This CPU has pages of 4, 16 and 64 KiB; `max` also signs pointers, which TCG does slowly."""
    return Machine(
        *("qemu-system-aarch64", "qemu-system-arm", "virt", "neoverse-n1", "ttyAMA0"),
        *("arm64", flavour, "aarch64", page),
        root=True,
        environment={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
    )


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {each.flavour: each for each in (AMD64, _arm64("arm64", 1 << 12), _arm64("arm64-16k", 1 << 14))}
)
"""By the name that --arch takes."""
