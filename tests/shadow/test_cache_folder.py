# SPDX-License-Identifier: GPL-2.0-only
"""The cache is in a folder that only its user can write."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from shadow.cache_folder import cache_folder

_ROOT = Path(__file__).parents[2]


def test_the_configured_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTESCOPE_CACHE", str(tmp_path / "a/b"))
    assert cache_folder("x") == (tmp_path / "a/b/x", [])
    assert (tmp_path / "a/b/x").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("how", ["owner", "mode", "above", "file", "link"])
def test_a_folder_that_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True)
    if how == "owner":
        os.chown(folder, 65534, 65534)
    elif how == "mode":
        folder.chmod(0o777)
    elif how == "above":
        folder.parent.chmod(0o777)
    elif how == "file":
        folder.rmdir()
        folder.write_text("")
    else:
        anothers = tmp_path / "anothers"
        anothers.mkdir()
        os.chown(anothers, 65534, 65534)
        folder.rmdir()
        folder.symlink_to(anothers)
    monkeypatch.setenv("PTESCOPE_CACHE", str(folder))
    found, refused = cache_folder("x")
    assert found is None or tmp_path not in found.parents
    assert len(refused) >= 1
    assert str(tmp_path) in refused[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="for root only")
def test_root_takes_no_home_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sudo -E` hands it over."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PTESCOPE_CACHE", raising=False)
    found, _ = cache_folder("x")
    assert found is not None
    assert tmp_path not in found.parents
    found.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_home_has_a_folder() -> None:
    """The XDG folder, or else one below /var/tmp."""
    code = (
        "import os; from shadow.cache_folder import cache_folder; os.setgroups([]); "
        "os.setuid(54321); print(cache_folder('x')[0])"
    )
    with tempfile.TemporaryDirectory() as xdg:
        os.chown(xdg, 54321, 54321)
        for environment, expected in (
            ({"XDG_CACHE_HOME": xdg}, f"{xdg}/ptescope/x"),
            ({}, "/var/tmp/ptescope-54321/x"),
        ):
            said = subprocess.run(
                [sys.executable, "-c", code],
                cwd=_ROOT,
                env={"PATH": os.environ["PATH"]} | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.stdout.strip() == expected, said.stderr
    shutil.rmtree("/var/tmp/ptescope-54321")
