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

from shadow.cache_folder import SHARED, cache_folder
from shadow.precompile import _stamp, prepare
from shadow.shared_cache import copy_shared
from shadow.table.jit import cache_place

_ROOT = Path(__file__).parents[2]
_USER = 54321
_START = """
import os, sys
os.setgroups([]); os.setuid({user})
from pathlib import Path
import shadow.shared_cache, shadow.cache_folder
shadow.shared_cache.SHARED = shadow.cache_folder.SHARED = Path({shared!r})
from shadow.precompile import Preparation
with Preparation() as preparation:
    print(preparation.done(), len([*Path({own!r}).rglob("*.nbc")]) > 10)
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


def _start(shared: Path, own: Path, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _START.format(user=_USER, shared=str(shared), own=str(own))],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "PTESCOPE_CACHE": str(own)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip(), done.stderr


def test_another_account_compiles_nothing(places: tuple[Path, Path]) -> None:
    said, errors = _start(*places)
    assert (said, errors) == ("True True", "")
    own = places[1]
    assert {path.stat().st_uid for path in own.rglob("*")} == {_USER}
    said, errors = _start(Path("/none"), own)
    assert (said, errors) == ("True True", ""), "the copy is complete"


@pytest.mark.parametrize("why", ["processor", "owner", "writable", "incomplete", "version"])
def test_code_that_may_be_unsound_is_not_used(places: tuple[Path, Path], why: str) -> None:
    shared, own = places
    environment = {}
    (made,) = shared.iterdir()
    if why == "processor":
        environment = {"NUMBA_CPU_NAME": "generic"}
        for stamp in made.glob("complete-*"):  # of tests with other processors
            if stamp.name != _stamp(made).name:
                stamp.unlink()
    elif why == "owner":
        os.chown(made, _USER, _USER)
    elif why == "writable":
        shared.chmod(0o777)
    elif why == "incomplete":
        for stamp in made.glob("complete-*"):
            stamp.unlink()
    else:
        made.rename(shared / "0123456789abcdef")
    said, errors = _start(shared, own, **environment)
    assert said == "False False"
    assert "compiling" in errors


def test_root_uses_the_shared_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PTESCOPE_CACHE", raising=False)
    monkeypatch.setattr("shadow.cache_folder.SHARED", tmp_path)

    assert cache_folder("x") == (tmp_path / "x", [])
    assert not copy_shared(SHARED / "0123456789abcdef", "complete-x")
