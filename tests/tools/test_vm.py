# SPDX-License-Identifier: GPL-2.0-only
"""The kernel and the initramfs of a guest."""

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from shadow.machine_code.place import digest
from tools.vm_guests import machine_code, own_kernels
from tools.vm_guests.apt import KernelError
from tools.vm_guests.initramfs import build
from tools.vm_guests.kernels import get_kernel, newest
from tools.vm_guests.machines import MACHINES

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


def test_a_kernel_that_is_not_built_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(own_kernels, "KERNELS", tmp_path)
    with pytest.raises(KernelError, match=r"`zero` is not built: \./tools/vm --build zero"):
        own_kernels.built_kernel("zero")


def test_another_configuration_or_patch_is_another_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = {own_kernels._folder(variant) for variant in own_kernels.VARIANTS}
    assert len(folders) == len(own_kernels.VARIANTS)
    config = tmp_path / "config"
    config.write_text("CONFIG_64BIT=y\n")
    monkeypatch.setattr(own_kernels, "_CONFIG", config)
    assert folders.isdisjoint(own_kernels._folder(variant) for variant in own_kernels.VARIANTS)


def test_patches_are_exchanged_in_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From one variant to any other: the source has exactly the patches of the last."""
    tree, log = tmp_path / "tree", tmp_path / "log"
    tree.mkdir()
    patches = []
    for name in ("one", "two"):
        (tree / name).write_text("old\n")
        patch = tmp_path / f"{name}.patch"
        patch.write_text(f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-old\n+new\n")
        patches.append(patch)
    for wanted in ((), (0,), (0, 1), (1,), (0, 1), ()):
        own_kernels._set_patched(tree, tuple(patches[at] for at in wanted), log)
        texts = [(tree / name).read_text() for name in ("one", "two")]
        assert texts == ["new\n" if at in wanted else "old\n" for at in range(2)]


def test_the_host_makes_the_machine_code_of_a_guest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ship(command: list[str], *, check: bool) -> None:
        assert check
        *_, folder, machine, page = command
        asked.append((machine, int(page)))
        place = Path(folder) / digest()
        place.mkdir()
        (place / f"{machine}-generic-{int(page) // 8}.image").write_bytes(b"code")

    monkeypatch.setattr(subprocess, "run", ship)
    for flavour in ("arm64", "arm64-16k", "arm64"):
        machine_code.put_machine_code(tmp_path, MACHINES[flavour])
    assert asked == [("aarch64", 1 << 12), ("aarch64", 1 << 14)]
    made = {path.name for path in (tmp_path / digest()).iterdir()}
    assert made == {"aarch64-generic-512.image", "aarch64-generic-2048.image"}
