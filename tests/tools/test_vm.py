# SPDX-License-Identifier: GPL-2.0-only
"""The kernel and the initramfs of a guest."""

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.vm_guests.initramfs import build
from tools.vm_guests.kernels import KernelError, get_kernel, newest

_NAMES = [
    "linux-image-6.1.0-49-amd64",
    "linux-image-6.1.0-56-amd64",
    "linux-image-6.1.0-56-amd64-unsigned",
    "linux-image-6.1.0-56-cloud-amd64",
    "linux-image-6.12.117+deb12-amd64",
    "linux-image-6.12.9+deb12-amd64",
    "linux-image-7.3.4+deb13-amd64",
    "linux-binary-7.3.4+deb13-amd64",
    "linux-modules-7.3.4+deb13-amd64",
    "linux-image-7.2.13+deb13-amd64",
    "linux-image-amd64",
    "linux-image-6.12.117+deb12-arm64",
    "linux-image-6.12.117+deb12-arm64-unsigned",
    "linux-image-6.12.119+deb12-arm64-16k",
    "linux-image-6.12.119+deb12-rt-arm64",
]


@pytest.mark.parametrize(
    ("series", "packages"),
    [
        ("6.1", ["linux-image-6.1.0-56-amd64"]),
        ("6.12", ["linux-image-6.12.117+deb12-amd64"]),
        ("7.2", ["linux-image-7.2.13+deb13-amd64"]),
        ("7.x", ["linux-binary-7.3.4+deb13-amd64", "linux-modules-7.3.4+deb13-amd64"]),
    ],
)
def test_the_newest_of_a_series_is_taken(series: str, packages: list[str]) -> None:
    found = newest(series, _NAMES)
    assert found
    assert found.names == packages


@pytest.mark.parametrize(
    ("flavour", "package"),
    [
        ("arm64", "linux-image-6.12.117+deb12-arm64"),
        ("arm64-16k", "linux-image-6.12.119+deb12-arm64-16k"),
    ],
)
def test_each_flavour_has_kernels_of_its_own(flavour: str, package: str) -> None:
    found = newest("6.12", _NAMES, flavour)
    assert found
    assert found.names == [package]


def test_a_missing_series_is_an_error() -> None:
    assert newest("6.18", _NAMES) is None
    with pytest.raises(KernelError, match="no series of kernels"):
        get_kernel("latest")


def test_busybox_reads_the_initramfs(tmp_path: Path) -> None:
    module = tmp_path / "9p.ko.xz"
    module.write_bytes(lzma.compress(b"module"))
    busybox = shutil.which("busybox")
    assert busybox
    archive = build((module,), Path(busybox))
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["busybox", "cpio", "-id"], input=archive, cwd=root, check=True)
    assert (root / "modules/9p.ko").read_bytes() == b"module"
    assert (root / "modules/order").read_text() == "9p.ko"
    assert (root / "bin/sh").readlink() == Path("busybox")
    assert (root / "init").stat().st_mode & 0o111
