# SPDX-License-Identifier: GPL-2.0-only
"""Compiled code: announced, cached in a private folder, and compiled again after a change."""

import ast
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from shadow.cache_folder import cache_folder
from shadow.table import jit
from shadow.table.jit import SOURCES, compiled
from tests.shadow.trace.traces import write_trace

_ROOT = Path(__file__).parents[2]


def test_the_digest_has_all_that_is_compiled_and_all_that_this_imports() -> None:
    files = {path.relative_to(_ROOT).as_posix() for path in SOURCES}
    for path in _ROOT.glob("shadow/**/*.py"):
        if re.search(r"shadow.table.jit import .*(compiled|inlined)", path.read_text()):
            assert path.relative_to(_ROOT).as_posix() in files
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shadow."):
                if node.module == "shadow.cache_folder":
                    continue  # where the code is kept, not what it is
                name = str(node.module).replace(".", "/")
                assert {f"{name}.py", f"{name}/__init__.py"} & files, f"{path} imports {name}"


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_compiling_is_announced_and_can_be_interrupted(
    tmp_path: Path, number: signal.Signals
) -> None:
    write_trace(tmp_path / "t.arrows")
    program = subprocess.Popen(
        [Path(sys.executable).parent / "ptescope", "replay", "t.arrows", "--parquet", "new"],
        cwd=tmp_path,
        env=os.environ | {"PTESCOPE_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stderr
    said = program.stderr.readline()
    assert said.startswith("ptescope: compiling the shadow table")
    assert f"Saved in {tmp_path / 'cache'}" in said
    time.sleep(2)
    program.send_signal(number)
    begin = time.monotonic()
    _, rest = program.communicate(timeout=60)
    assert time.monotonic() - begin < 2
    assert program.returncode in (-number, 128 + number)
    assert rest in ("", "ptescope: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "t.arrows"]


def test_a_missing_cache_folder_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jit, "cache_place", lambda: (None, ["others may write to /odd"]))
    with jit.compiling("a function"):
        numba.njit(lambda x: x + 1)(1)
    assert caplog.messages == [
        "ptescope: compiling a function. No folder can store it (others may write to /odd): "
        "set PTESCOPE_CACHE to one that can."
    ]


def test_a_full_disk_costs_only_the_next_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(IndexDataCacheFile, "save", full)

    @compiled
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert "No space left on device. The next start compiles again" in caplog.text


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path) -> None:
    """As root, in a folder of another user."""
    for name in ("json", "ctypes", "numba", "shadow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hostile')")
    code = (
        "from shadow.geometry import X86_64; from shadow.precompile import Preparation\n"
        "with Preparation(X86_64) as preparation: print(preparation._compiler.poll())\n"
        "import tracer.bpf.compile as c; c._compile_elsewhere((), ())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.append({str(_ROOT)!r})\n{code}"],
        cwd=tmp_path,
        env=os.environ | {"PTESCOPE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert "hostile" not in done.stderr
