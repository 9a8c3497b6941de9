# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels by series, fetched once and kept in .kernels.

This keeps the image and the few modules that mount the host's root: about 15 MB of 70 to 170. If
Debian has dropped a release, the newest of its series replaces it.
"""

import gzip
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tools.vm_guests.apt import Apt, KernelError
from tools.vm_guests.machines import AMD64, Machine

__all__ = ("KERNELS", "MODULES", "GuestKernel", "Package", "get_kernel", "newest")

KERNELS = Path(__file__).parents[2] / ".kernels"
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay"),
)
"""The modules that the guest needs to mount its root, in load order; some are built in."""

_NAME = re.compile(
    r"linux-(?P<kind>image|binary)-"
    r"(?P<release>(?P<series>\d+\.\d+)\.(?P<patch>\d+)(?:-(?P<abi>\d+))?(?:\+\w+)?"
    r"-(?P<flavour>amd64|arm64|arm64-16k))"
)
_GZIP = b"\x1f\x8b"
_SERIES = re.compile(r"\d+\.(\d+|x)")
_SUITES = ("bookworm", "trixie", "trixie-backports")
"""The suites to search if the host's own sources lack a series."""


@dataclass(frozen=True)
class GuestKernel:
    """A fetched kernel.

    Attributes:
        release: its release, as in uname.
        image: the kernel image.
        modules: those of `MODULES` that are not built in, in that order.
    """

    release: str
    image: Path
    modules: tuple[Path, ...]


@dataclass(frozen=True, order=True)
class Package:
    """The packages of a kernel; the newest is the largest.

    From 7.3 on, linux-binary holds the image, linux-modules holds the modules, and linux-image
    is empty. So linux-binary counts as newer than linux-image.
    """

    version: tuple[int, ...]
    split: bool
    release: str
    flavour: str = field(compare=False)

    @property
    def names(self) -> list[str]:
        """The packages to unpack."""
        kinds = ("binary", "modules") if self.split else ("image",)
        return [f"linux-{kind}-{self.release}" for kind in kinds]


def _package(name: str) -> Package | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    version = (*map(int, match["series"].split(".")), int(match["patch"]), int(match["abi"] or 0))
    return Package(version, match["kind"] == "binary", match["release"], match["flavour"])


def newest(series: str, names: list[str], flavour: str = AMD64.flavour) -> Package | None:
    """The newest kernel of a series, such as 6.1, or 7.x for any 7.

    Args:
        series: two numbers; the second may be x.
        names: packages, or releases prefixed with linux-image-; others are ignored.
        flavour: the last part of the names.
    """
    major, minor = series.split(".")
    found = [
        package
        for package in map(_package, names)
        if package
        and package.flavour == flavour
        and package.version[0] == int(major)
        and (minor == "x" or package.version[1] == int(minor))
    ]
    return max(found, default=None)


def _kernel_in(apt: Apt, series: str, flavour: str) -> Package | None:
    """The newest kernel of a series and a flavour."""
    return newest(series, apt.run("apt-cache", "pkgnames", "linux-").split(), flavour)


def _unpack(debs: list[Path], target: Path) -> None:
    """Unpack the image and `MODULES` of these packages."""
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", deb, target / "all"], check=True)
    for file in sorted((target / "all").rglob("*")):
        name = file.name.split(".ko")[0]
        if file.name.startswith("vmlinuz"):
            image = file.read_bytes()  # arm64's is compressed, which QEMU cannot boot
            packed = image.startswith(_GZIP)
            (target / "vmlinuz").write_bytes(gzip.decompress(image) if packed else image)
        elif ".ko" in file.name and name in MODULES:
            file.rename(target / file.name)
    subprocess.run(["rm", "-r", target / "all"], check=True)


def _kernel(folder: Path) -> GuestKernel:
    found = {file.name.split(".ko")[0]: file for file in folder.glob("*.ko*")}
    modules = tuple(found[name] for name in MODULES if name in found)
    image = folder / "vmlinuz"
    if not image.exists() or "9p" not in found:
        raise KernelError(f"{folder} is incomplete; remove it, and the next run fetches it again.")
    return GuestKernel(folder.name, image, modules)


def _fetch(series: str, machine: Machine) -> GuestKernel:
    KERNELS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KERNELS, prefix=".") as name:
        folder = Path(name)
        apt, suites = None if machine.root else Apt(), iter(_SUITES)
        while apt is None or (package := _kernel_in(apt, series, machine.flavour)) is None:
            suite = next(suites, None)
            if suite is None:
                raise KernelError(
                    f"neither the host's apt sources nor {', '.join(_SUITES)} have it"
                )
            apt = Apt.of_suite(suite, folder / suite, machine.debian)
        apt.run("apt-get", "download", "-qq", *package.names, folder=folder)
        unpacked = folder / package.release
        unpacked.mkdir()
        _unpack(list(folder.glob("*.deb")), unpacked)
        _kernel(unpacked)
        return _kernel(unpacked.rename(KERNELS / package.release))


def get_kernel(series: str, machine: Machine = AMD64) -> GuestKernel:
    """The newest kernel of a series: one in .kernels, or else Debian's.

    Args:
        series: such as 6.1, or 7.x for the newest 7.
        machine: the architecture.

    Raises:
        KernelError: there is no such kernel, or the download failed.
    """
    if _SERIES.fullmatch(series) is None:
        raise KernelError(f"{series} is no series of kernels; give 6.1, or 7.x for the newest 7.")
    kept = newest(
        series, [f"linux-image-{folder.name}" for folder in KERNELS.glob("[0-9]*")], machine.flavour
    )
    if kept:
        return _kernel(KERNELS / kept.release)
    try:
        return _fetch(series, machine)
    except (KernelError, OSError, subprocess.CalledProcessError) as error:
        raise KernelError(
            f"Kernel {series} for {machine.flavour} cannot be fetched: {error}"
        ) from error
