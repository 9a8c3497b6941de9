# SPDX-License-Identifier: GPL-2.0-only
"""The root folder of a guest of another architecture, made once and kept in .kernels.

It has Debian's packages unpacked, and the Python packages that ptescope needs. No script of a
package runs, because they are programs of the other architecture. So there are no users but root,
and nothing that such a script would link.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tools.vm_guests.apt import Apt, KernelError
from tools.vm_guests.initramfs import CONTROL
from tools.vm_guests.machines import Machine

__all__ = ("get_root",)

_SUITE = "bookworm"
_PACKAGES = (
    *("base-files", "bash", "busybox-static", "coreutils", "dash", "findutils", "grep", "hostname"),
    *("iproute2", "libc-bin", "mount", "procps", "sed", "util-linux"),
    *("gcc", "libc6-dev", "linux-libc-dev", "libdw1", "libjemalloc2"),
    *("python3", "python3-bpfcc", "redis-server", "redis-tools"),
)
"""With nothing installed, apt takes none of the essential packages for granted."""
_PYTHON = "3.11"
"""The Python of the suite."""
_WHEELS = ("manylinux_2_28_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
_MORE = ("pytest",)
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_USERS = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _requirements() -> list[str]:
    project = tomllib.loads(_PROJECT.read_text())["project"]
    return [*project["dependencies"], *_MORE]


def _install_wheels(target: Path) -> None:
    options = [f"--platform={platform}" for platform in _WHEELS]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(target), "--only-binary=:all:", "--implementation=cp"),
        *(f"--python-version={_PYTHON}", *options, *_requirements()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelError(f"pip cannot fetch wheels: {done.stderr.strip().splitlines()[-1]}")


def _make(folder: Path, machine: Machine) -> None:
    apt = Apt.of_suite(_SUITE, folder / "apt", machine.debian)
    apt.run("apt-get", "install", "-qq", "-y", "-d", "--no-install-recommends", *_PACKAGES)
    root = folder / "root"
    root.mkdir()
    for deb in sorted((folder / "apt" / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    (root / "etc" / "passwd").write_text(_USERS)
    (root / CONTROL.lstrip("/")).mkdir(exist_ok=True)
    _install_wheels(root / "usr" / "local" / "lib" / f"python{_PYTHON}" / "dist-packages")
    shutil.rmtree(folder / "apt")


def get_root(kernels: Path, machine: Machine) -> Path:
    """The root folder of guests of this architecture.

    Args:
        kernels: the folder that keeps what was fetched.
        machine: the architecture.

    Raises:
        KernelError: packages cannot be fetched.
    """
    kept = kernels / f"root-{machine.debian}"
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(dir=kernels, prefix=".") as name:
        try:
            _make(Path(name), machine)
        except (OSError, subprocess.CalledProcessError) as error:
            raise KernelError(f"The root for {machine.debian} cannot be made: {error}") from error
        return (Path(name) / "root").rename(kept)
