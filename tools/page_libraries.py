# SPDX-License-Identifier: GPL-2.0-only
"""Fetch the libraries of the HTML page again, and compare them with the embedded files.

    python -m tools.page_libraries            # compare; status 1 if a file differs
    python -m tools.page_libraries --write    # replace the files and their hashes

libraries.json names the packages, their versions and files. npm fetches them, from the registry
that it is configured for. To upgrade, change the version there and run this with --write.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

__all__ = ("FOLDER", "altered", "libraries")

FOLDER = Path(__file__).parent.parent / "shadow/report/page/static/libraries"
_LIST = FOLDER / "libraries.json"


def libraries() -> list[dict[str, Any]]:
    """The embedded libraries."""
    listed: list[dict[str, Any]] = json.loads(_LIST.read_text())
    return listed


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def altered() -> list[str]:
    """The embedded files that differ from their recorded hashes, or have none."""
    recorded = {name: value for each in libraries() for name, value in each["sha256"].items()}
    there = {path.name: _digest(path.read_bytes()) for path in FOLDER.iterdir() if path != _LIST}
    return sorted(
        name for name in recorded.keys() | there.keys() if recorded.get(name) != there.get(name)
    )


def _fetched(library: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The files of a package, by their embedded names."""
    package = f"{library['name']}@{library['version']}"
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    )
    files = {}
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        for name, source in library["files"].items():
            member = archive.extractfile(f"package/{source}")
            assert member, f"{package} has no {source}"
            files[name] = member.read()
    return files


def main() -> int:
    """Compare or replace; returns the exit status."""
    listed, different = libraries(), []
    with tempfile.TemporaryDirectory() as folder:
        for library in listed:
            files = _fetched(library, Path(folder))
            for name, data in files.items():
                place = FOLDER / name
                if "--write" in sys.argv[1:]:
                    place.write_bytes(data)
                elif not place.exists() or place.read_bytes() != data:
                    different.append(name)
            library["sha256"] = {name: _digest(data) for name, data in files.items()}
            print(f"{library['name']} {library['version']}, {library['licence']}")
    if "--write" in sys.argv[1:]:
        _LIST.write_text(json.dumps(listed, indent=2) + "\n")
        return 0
    different += altered()
    print(f"different: {', '.join(sorted(set(different)))}" if different else "all files are equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
