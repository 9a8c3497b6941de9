# SPDX-License-Identifier: GPL-2.0-only
"""The machine code that an installation compiles for all accounts is used where it is sound."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow.cache_folder import cache_folder
from shadow.machine_code.place import cache_place
from shadow.precompile import prepare

_ROOT = Path(__file__).parents[2]
_USER = 54321
_START = """
import os
from pathlib import Path
import shadow.precompile
from shadow.machine_code.place import digest
digest()  # another account may be unable to read the clone, and to run its Python
shadow.precompile.isolated_python = lambda _code: ["sleep", "60"]
os.setgroups([]); os.setuid({user})
shadow.precompile.SHARED = Path({shared!r})
with shadow.precompile.Preparation(shadow.geometry.X86_64) as preparation:
    print(preparation._compiler is None)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """A shared folder with the machine code of root, and a folder of another account."""
    prepare()
    made, _ = cache_place()
    assert made
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shared, own = folder / "shared", folder / "own"
        shutil.copytree(made, shared / made.name)
        for path in (shared, *shared.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        own.mkdir()
        os.chown(own, _USER, _USER)
        yield shared, own


def _start(shared: Path, own: Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _START.format(user=_USER, shared=str(shared))],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "PTESCOPE_CACHE": str(own)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip(), done.stderr


def test_another_account_compiles_nothing(places: tuple[Path, Path]) -> None:
    assert _start(*places) == ("True", "")
    assert [*places[1].iterdir()] == []


@pytest.mark.parametrize("why", ["owner", "writable", "damaged", "version"])
def test_code_that_may_be_unsound_is_not_used(places: tuple[Path, Path], why: str) -> None:
    shared, own = places
    (made,) = shared.iterdir()
    if why == "owner":
        os.chown(made, _USER, _USER)
    elif why == "writable":
        shared.chmod(0o777)
    elif why == "damaged":
        for image in made.glob("*.image"):
            image.write_bytes(image.read_bytes()[:-1])
    else:
        made.rename(shared / "0123456789abcdef")
    said, errors = _start(shared, own)
    assert said == "False"
    assert "compiling" in errors


def test_root_uses_the_shared_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PTESCOPE_CACHE", raising=False)
    monkeypatch.setattr("shadow.cache_folder.SHARED", tmp_path)
    assert cache_folder("x") == (tmp_path / "x", [])
