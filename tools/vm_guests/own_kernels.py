# SPDX-License-Identifier: GPL-2.0-only
"""Kernels of our own: Debian's source, one short configuration, with and without a patch.

`zero` frees a PTE page as soon as a MADV_DONTNEED leaves it empty, whatever the size of the call
(dontneed-zero.patch), and has mremap cope with that (mremap-checks.patch). `unchecked` has the
first patch alone, and loses pages in a race. `plain` is the same source and configuration without
patches, so that nothing else differs. All are built in one tree: the first build takes 10 minutes
of one core, and each other one compiles a file or two again and links.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.vm_guests.apt import Apt, KernelError
from tools.vm_guests.kernels import KERNELS, GuestKernel
from tools.vm_guests.machines import AMD64

__all__ = ("VARIANTS", "build_kernel", "built_kernel")

_HERE = Path(__file__).parent
_RULE, _CHECK = _HERE / "dontneed-zero.patch", _HERE / "mremap-checks.patch"
_PATCHES: dict[str, tuple[Path, ...]] = {
    "plain": (),
    "zero": (_RULE, _CHECK),
    "unchecked": (_RULE,),
}
VARIANTS = tuple(_PATCHES)
"""The kernels that `build_kernel` builds."""

_CONFIG = _HERE / "guest.config"
_SUITE, _PACKAGE = "trixie-backports", "linux-source-7.3"
_PROGRAMS = ("bc", "bison", "flex", "gcc", "make", "pahole", "patch", "xz")
_LOG_LINES = 20


def _folder(variant: str) -> Path:
    """Where a variant is kept; another patch or configuration has another folder."""
    sources = [_PACKAGE.encode(), *(file.read_bytes() for file in (_CONFIG, *_PATCHES[variant]))]
    return KERNELS / f"{variant}-{hashlib.sha256(b'|'.join(sources)).hexdigest()[:12]}"


def built_kernel(variant: str) -> GuestKernel:
    """A variant that was built before.

    Raises:
        KernelError: it was not built, or its patch or configuration has changed since.
    """
    folder = _folder(variant)
    image = folder / "vmlinuz"
    if not image.exists():
        raise KernelError(
            f"The kernel `{variant}` is not built: ./tools/vm --build {variant} builds it, "
            "in 10 minutes of one core."
        )
    return GuestKernel((folder / "release").read_text().strip(), image, ())


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait for another build in the same tree."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(log: Path, *command: str | Path, folder: Path | None = None) -> None:
    with log.open("a") as output:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode:
        said = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        raise KernelError(f"{' '.join(map(str, command))} failed; the end of {log}:\n{said}")


def _fetched_tree(place: Path, log: Path) -> Path:
    """The unpacked source, fetched if it is not there."""
    tree = place / _PACKAGE
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(dir=place, prefix=".") as name:
        folder = Path(name)
        apt = Apt.of_suite(_SUITE, folder / "apt", AMD64.debian)
        apt.run("apt-get", "download", "-qq", _PACKAGE, folder=folder)
        (deb,) = folder.glob(f"{_PACKAGE}_*.deb")
        _run(log, "dpkg-deb", "-x", deb, folder)
        _run(log, "tar", "xf", folder / "usr" / "src" / f"{_PACKAGE}.tar.xz", folder=folder)
        return (folder / _PACKAGE).rename(tree)


def _set_patched(tree: Path, patches: tuple[Path, ...], log: Path) -> None:
    """Have exactly these patches applied to the source."""
    kept = tree.with_name("applied")
    kept.mkdir(exist_ok=True)
    wanted = {patch.name: patch.read_bytes() for patch in patches}
    applied = {file.name: file.read_bytes() for file in kept.iterdir()}
    for name in (name for name in applied if applied[name] != wanted.get(name)):
        _run(log, "patch", "-R", "-p1", "-i", kept / name, folder=tree)
        (kept / name).unlink()
    for patch in (patch for patch in patches if applied.get(patch.name) != wanted[patch.name]):
        _run(log, "patch", "-p1", "-i", patch, folder=tree)
        shutil.copy(patch, kept)


def _make(tree: Path, variant: str, log: Path) -> tuple[Path, str]:
    """Configure and build; returns the image and the release."""
    out = tree.with_name("out")
    out.mkdir(exist_ok=True)
    make = ("make", "-C", tree, f"O={out}", f"LOCALVERSION=-{variant}")
    _run(log, *make, "tinyconfig")
    merge = tree / "scripts" / "kconfig" / "merge_config.sh"
    _run(log, merge, "-m", "-O", out, out / ".config", _CONFIG, folder=tree)
    _run(log, *make, "olddefconfig")
    wanted = {line for line in _CONFIG.read_text().splitlines() if line.startswith("CONFIG_")}
    if lacking := wanted - set((out / ".config").read_text().splitlines()):
        raise KernelError(f"This source does not have these options: {', '.join(sorted(lacking))}")
    _run(log, *make, f"-j{len(os.sched_getaffinity(0))}", "bzImage")
    release = (out / "include" / "config" / "kernel.release").read_text()
    return out / "arch" / "x86" / "boot" / "bzImage", release


def build_kernel(variant: str) -> GuestKernel:
    """Build a variant, unless it is kept from an earlier build.

    Raises:
        KernelError: a program is missing, the source cannot be fetched, or the build failed.
    """
    place = KERNELS / "source"
    with _alone(place):
        if not (_folder(variant) / "vmlinuz").exists():
            if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
                raise KernelError(f"To build a kernel, install {', '.join(missing)}.")
            log = place / f"{variant}.log"
            log.write_text("")
            tree = _fetched_tree(place, log)
            _set_patched(tree, _PATCHES[variant], log)
            image, release = _make(tree, variant, log)
            folder = _folder(variant)
            folder.mkdir(exist_ok=True)
            (folder / "release").write_text(release)
            shutil.copy(tree.with_name("out") / ".config", folder / "config")
            shutil.copy(image, folder / "vmlinuz.new")
            (folder / "vmlinuz.new").rename(folder / "vmlinuz")
    return built_kernel(variant)
