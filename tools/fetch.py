"""Bring the real programs that tests look into: python -m tools.fetch [--large].

Debian's packages come by apt-get, those of PyPI by pip; both are unpacked into
.corpus and not installed. What is there already is not fetched again.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.tracer.allocator.programs import CORPUS, LARGE, PROGRAMS, STATIC_JEMALLOC

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


def _fetch_deb(package: str, folder: Path, target: Path) -> None:
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), target], check=True)


def fetch(package: str) -> None:
    """Unpack a package into the corpus, unless it is there.

    Args:
        package: name==version on PyPI, or a name in Debian.

    Raises:
        subprocess.CalledProcessError: it could not be fetched.
    """
    target = CORPUS / package
    if target.exists():
        return
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
    """Fetch all, or all and the large ones."""
    wanted = PROGRAMS + (LARGE if "--large" in sys.argv[1:] else ())
    packages = [program.package for program in wanted]
    packages.append(STATIC_JEMALLOC.relative_to(CORPUS).parts[0])
    for package in dict.fromkeys(packages):
        fetch(package)


if __name__ == "__main__":
    main()
