# SPDX-License-Identifier: GPL-2.0-only
"""Download the real programs that tests examine: python -m tools.fetch [--large].

This fetches packages with apt-get or pip and unpacks them into .corpus, without installing them.
It skips packages that exist there already.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tools.corpus import (
    CORPUS,
    LARGE,
    OTHER_NAMES,
    PROGRAMS,
    STATIC_JEMALLOC,
    VERSION_FILE,
)

__all__ = ("fetch",)


def _fetch_wheel(package: str, folder: Path, target: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    subprocess.run([*command, "--only-binary", ":all:", package], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(target)


def _name_here(package: str) -> str:
    """The name of a package in this machine's apt sources; the first name if they have none."""
    names = (package, *OTHER_NAMES.get(package, ()))
    for name in names:
        said = subprocess.run(
            ["apt-cache", "policy", name], capture_output=True, text=True, check=True
        ).stdout
        if re.search(r"^ *Candidate: \d", said, re.M):
            return name
    return package


def _fetch_deb(package: str, folder: Path, target: Path) -> None:
    download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root"]
    command = [*download, _name_here(package)]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run([*download, _name_here(package)], cwd=folder, check=True)
    deb = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", deb, target], check=True)
    version = subprocess.run(["dpkg-deb", "-f", deb, "Version"], capture_output=True, check=True)
    (target / VERSION_FILE).write_bytes(version.stdout)


def fetch(package: str) -> None:
    """Unpack a package into the corpus, unless it exists there (from Debian: with its version).

    Args:
        package: name==version on PyPI, or a name in Debian.

    Raises:
        subprocess.CalledProcessError: the download failed.
    """
    target = CORPUS / package
    if (target / VERSION_FILE if "==" not in package else target).exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    CORPUS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CORPUS) as name:
        folder = Path(name)
        unpacked = folder / "unpacked"
        get = _fetch_wheel if "==" in package else _fetch_deb
        get(package, folder, unpacked)
        for file in (path for path in unpacked.rglob("scripts/*") if path.is_file()):
            file.chmod(0o755)
        unpacked.rename(target)


def main() -> None:
    """Fetch all programs; with --large, also the large ones."""
    wanted = PROGRAMS + (LARGE if "--large" in sys.argv[1:] else ())
    packages = [program.package for program in wanted]
    packages.append(STATIC_JEMALLOC.relative_to(CORPUS).parts[0])
    for package in dict.fromkeys(packages):
        fetch(package)


if __name__ == "__main__":
    main()
