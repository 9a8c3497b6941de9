# SPDX-License-Identifier: GPL-2.0-only
"""The wheel, built from the sdist and installed by pip or uv: every command works without a clone.

The environment sees the packages that ptescope depends on, but not the clone, so nothing is
downloaded. The wheel has machine code, so nothing is compiled.
"""

import json
import mmap
import os
import pty
import select
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow.machine_code.place import digest, image_name
from shadow.version import VERSION
from tests.live.actor import SLOT, Actor
from tracer.cli import _COMMANDS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="follows a process, as root")

_ROOT = Path(__file__).parents[2]
_BASE = 0x20_0000_0000
_PIP = ("-m", "pip", "--disable-pip-version-check", "-q")
_STRACE = "7 0.5 munmap(0x200000, 2097152) = 0\n7 1.0 madvise(0x400000, 4096, MADV_DONTNEED) = 0\n"


def _checked(*words: str | Path, cwd: Path = _ROOT, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home())} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    _checked(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, _ROOT)
    assert len(list(folder.iterdir())) == 2
    return folder


def _environment(folder: Path, wheel: Path, installer: str) -> Path:
    """A virtual environment with the wheel; returns its Python."""
    _checked("/usr/bin/python3", "-m", "venv", "--system-site-packages", folder)
    python = folder / "bin/python"
    (site,) = folder.glob("lib/python3*/site-packages")
    # A folder named in a .pth file brings its packages, but not its own .pth files: no clone.
    (site / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    if installer == "uv":
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
        _checked(*uv, "--python", python, wheel)
    else:
        _checked(python, *_PIP, "install", "--no-deps", "--force-reinstall", wheel)
    return python


@pytest.fixture(scope="module", params=["pip", "uv"])
def python(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    (wheel,) = built.glob("*.whl")
    return _environment(tmp_path_factory.mktemp(request.param) / "venv", wheel, request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not the clone."""
    return tmp_path_factory.mktemp("elsewhere")


def _site(python: Path, folder: Path) -> Path:
    """The folder in which Python finds ptescope."""
    code = "import tracer; print(tracer.__file__)"
    return Path(_checked(python, "-c", code, cwd=folder).strip()).parents[1]


@pytest.mark.skipif(
    not (_ROOT / ".git").exists() or not shutil.which("git"), reason="not a git checkout"
)
def test_the_sdist_has_all_that_a_clone_has(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    assert sdist.name == f"ptescope-{VERSION}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = _checked("git", "ls-files").splitlines()
    left_out = {name for name in listed if name not in names}
    assert {name.split("/")[0] for name in left_out} <= {
        *(".ci", ".gitignore", ".pre-commit-config.yaml", "scripts")
    }, left_out
    assert "debian/rules" in names


def test_the_wheel_has_no_tests_and_what_belongs_beside_the_code(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        *("shadow", "tracer", "ptescope.py"),
        *(f"ptescope-{VERSION}.{kind}" for kind in ("data", "dist-info")),
    }
    for needed in ("tracer/py.typed", "tracer/daemon/service/ptescope.service"):
        assert needed in names
    assert f"shadow/machine_code/images/{digest()}/{image_name(mmap.PAGESIZE // 8)}" in names


def test_it_runs_from_its_own_place(python: Path, folder: Path) -> None:
    assert _ROOT not in _site(python, folder).parents
    program = python.parent / "ptescope"
    assert _checked(program, "--version", cwd=folder) == f"ptescope {VERSION}\n"
    assert _checked(python, "-m", "tracer", "--version", cwd=folder) == f"ptescope {VERSION}\n"
    for name in ("unit", "rules", "dashboard", "config"):
        assert len(_checked(program, "daemon", "--print", name, cwd=folder)) > 500
    share = python.parents[1] / "share"
    for name in (
        "man/man1/ptescope.1",
        "bash-completion/completions/ptescope",
        "zsh/site-functions/_ptescope",
    ):
        assert (share / name).read_text() == (_ROOT / "scripts/share" / name).read_text()


def _older(wheel: Path, folder: Path) -> Path:
    """The wheel as version 0.1.9, with a module that the newer one lacks."""
    folder.mkdir()
    old, new = (f"ptescope-{version}." for version in ("0.1.9", VERSION))
    path = folder / wheel.name.replace(VERSION, "0.1.9")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(path, "w") as target:
        names = [name.replace(new, old) for name in source.namelist()]
        for name in source.namelist():
            content = source.read(name).replace(
                f"\nVersion: {VERSION}".encode(), b"\nVersion: 0.1.9"
            )
            if not name.endswith("/RECORD"):
                target.writestr(name.replace(new, old), content)
        target.writestr("shadow/gone.py", "")
        target.writestr(
            f"{old}dist-info/RECORD",
            "".join(f"{name},,\n" for name in [*names, "shadow/gone.py"]),
        )
    return path


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_newer_wheel_replaces_an_older_one_and_leaves_nothing(
    built: Path, tmp_path: Path, installer: str
) -> None:
    (wheel,) = built.glob("*.whl")
    python = _environment(tmp_path / "venv", _older(wheel, tmp_path / "old"), installer)
    program = python.parent / "ptescope"
    gone = [*tmp_path.glob("venv/lib/python3*/site-packages/shadow/gone.py")]
    listed = "import importlib.metadata as m; print(m.version('ptescope'))"
    assert _checked(python, "-c", listed, cwd=tmp_path) == "0.1.9\n"
    assert len(gone) == 1
    uv = (sys.executable, "-m", "uv", "pip")
    if installer == "uv":
        _checked(*uv, "install", "--no-deps", "--offline", "--python", python, wheel)
    else:
        _checked(python, *_PIP, "install", "--no-deps", wheel)
    assert _checked(python, "-c", listed, cwd=tmp_path) == f"{VERSION}\n"
    assert _checked(program, "--version", cwd=tmp_path) == f"ptescope {VERSION}\n"
    assert not gone[0].exists()
    if installer == "uv":
        _checked(*uv, "uninstall", "--python", python, "ptescope")
    else:
        _checked(python, *_PIP, "uninstall", "-y", "ptescope")
    ours = ("ptescope*", "_ptescope", "shadow", "tracer")
    assert not [path for pattern in ours for path in (tmp_path / "venv").rglob(pattern)]


@pytest.fixture
def actor() -> Iterator[Actor]:
    """A process with empty PTE pages."""
    actor = Actor()
    actor.map(_BASE, 40 * SLOT)
    actor.touch(_BASE, 40 * SLOT, SLOT)
    for slot in range(20):
        actor.advise(_BASE + slot * SLOT, 4096, 4)
    yield actor
    actor.close()


def test_every_command_works(python: Path, folder: Path, tmp_path: Path, actor: Actor) -> None:
    program, environment = python.parent / "ptescope", {"PTESCOPE_CACHE": str(tmp_path)}

    def run(*words: str | int) -> str:
        ran.add(str(words[0]))
        return _checked(program, *map(str, words), cwd=folder, **environment)

    ran: set[str] = set()
    (folder / "calls.txt").write_text(_STRACE)
    trace = "t.arrows"
    census = json.loads(run("census", actor.pid, "--json"))["processes"][0]
    assert census["now"]["empty"] >= 20
    attached = json.loads(run("attach", "-p", actor.pid, "-d", 1, "--json"))["processes"][0]
    assert attached["now"]["empty"] == census["now"]["empty"]
    run("record", "-p", actor.pid, "-d", 1, "-o", trace, "--force")
    assert f"(pid {actor.pid})" in run("replay", trace)
    run("report", trace, "-o", "t.html", "--force")
    assert "<html" in (folder / "t.html").read_text()
    run("export", trace, "--parquet", "t.parquet", "--force")
    run("import", "calls.txt", "-o", "i.arrows", "--force")
    assert run("advise", trace)
    document = json.loads(run("daemon", "-d", 3, "--json", "--listen", "127.0.0.1:0",
                              "--min-vmpte", "64K", "--name", actor_name(actor)))  # fmt: skip
    assert document["schema"] == 1
    assert "ok       bcc" in run("doctor")
    ran.add("top")
    assert actor_name(actor) in _screen([str(program), "top", "--min-vmpte", "64K"], environment)
    assert ran == set(_COMMANDS)
    assert not [*tmp_path.glob("*/lock"), *tmp_path.glob("*/*.image")], "nothing was compiled"


def actor_name(actor: Actor) -> str:
    return Path(f"/proc/{actor.pid}/comm").read_text().strip()


def _screen(command: list[str], environment: dict[str, str]) -> str:
    """What a command shows on a terminal until q is typed after some seconds."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, os.environ | environment)
    seen, begin, typed = b"", time.monotonic(), False
    while time.monotonic() - begin < 60:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal, 1 << 16)
            except OSError:
                break
        elif not typed and b"VmPTE" in seen and time.monotonic() - begin > 8:
            os.write(terminal, b"q")
            typed = True
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen[-500:]
    return seen.decode(errors="replace")
