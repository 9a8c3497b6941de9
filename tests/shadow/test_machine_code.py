# SPDX-License-Identifier: GPL-2.0-only
"""The machine code: announced, kept in a private folder, and made again after a change."""

import ast
import errno
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shadow import precompile
from shadow.errors import UnsupportedHostError
from shadow.events import EVENT
from shadow.geometry import X86_64
from shadow.isolated_python import isolated_python
from shadow.machine_code import make
from shadow.machine_code.image import Image, ImageError, loaded
from shadow.machine_code.place import SOURCES, cache_place, image_name
from shadow.policy import Policy
from shadow.precompile import Preparation, machine_code
from shadow.table.compiled import Entry
from shadow.table.counters import Counter
from shadow.table.loop import run
from shadow.table.state import HugePages, new_state
from shadow.table.table import Table
from tests.shadow.trace.traces import write_trace

_ROOT = Path(__file__).parents[2]
_NOT_COMPILED = {"cache_folder", "errors", "isolated_python", "precompile"}
"""Modules of `shadow` that sources import, and that change no machine code."""


def test_the_digest_has_all_that_is_compiled_and_all_that_this_imports() -> None:
    files = {path.relative_to(_ROOT).as_posix() for path in SOURCES}
    for path in _ROOT.glob("shadow/**/*.py"):
        if re.search(r"shadow.table.compiled import .*(compiled|entry|inlined)", path.read_text()):
            assert path.relative_to(_ROOT).as_posix() in files
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shadow."):
                if node.module in {f"shadow.{name}" for name in _NOT_COMPILED}:
                    continue
                name = str(node.module).replace(".", "/")
                assert {f"{name}.py", f"{name}/__init__.py"} & files, f"{path} imports {name}"


@pytest.fixture
def image() -> bytes:
    """The content of the file."""
    machine_code(X86_64.entries)
    folder, _ = cache_place()
    assert folder
    return (folder / image_name(X86_64.entries)).read_bytes()


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompile, "_images", {})


def _loaded(content: bytes) -> Image:
    file = os.memfd_create("image")
    try:
        os.write(file, content)
        return loaded(file)
    finally:
        os.close(file)


def test_every_entry_is_in_the_image() -> None:
    entries = set()
    for path in SOURCES:
        name = path.relative_to(_ROOT).with_suffix("").as_posix().replace("/", ".")
        module = importlib.import_module(name.removesuffix(".__init__"))
        entries |= {value for value in vars(module).values() if isinstance(value, Entry)}
    names = {f"{each.function.__module__}.{each.function.__qualname__}" for each in entries}
    assert names == make.samples(X86_64).keys() == machine_code(X86_64.entries).names()


@pytest.mark.parametrize("wrong", ["kind", "record", "dimensions", "number", "order"])
def test_arguments_of_other_types_are_refused(wrong: str) -> None:
    state = new_state(X86_64, Policy.NONE, HugePages())
    events = {
        "kind": np.zeros(2, np.int64),
        "record": np.zeros(2, [("time", "<i8")]),
        "dimensions": np.zeros((2, 1), EVENT),
        "number": np.zeros(2, EVENT),
        "order": np.zeros(2, EVENT)[::-1],
    }[wrong]
    first = True if wrong == "number" else 0
    with pytest.raises((TypeError, ValueError), match=r"takes State|contiguous"):
        run(state, events, first)


def test_read_only_arrays_are_fine() -> None:
    """As those that a trace holds."""
    starts, ends, huge = np.full(1, 1 << 30), np.full(1, (1 << 30) + 4096), np.zeros(1, np.uint8)
    for array in (starts, ends, huge):
        array.flags.writeable = False
    assert Table.of_runs(starts, ends, huge).counter(Counter.REFS) == 1


def test_the_code_is_not_writable_and_the_addresses_behind_it_neither(image: bytes) -> None:
    def mappings() -> set[str]:
        return set(Path("/proc/self/maps").read_text().splitlines())

    before = mappings()
    _loaded(image)
    made = mappings() - before
    code = [line for line in made if " r-xp " in line]
    assert len(code) == 1
    assert "image" in code[0]
    assert not [line for line in made if re.search(" .wx. ", line)]
    assert [line for line in made if " r--p " in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_cache_on_a_file_system_without_programs_serves_all_the_same(tmp_path: Path) -> None:
    machine_code(X86_64.entries)
    folder, _ = cache_place()
    assert folder
    code = (
        "from shadow.geometry import X86_64; from shadow.precompile import Preparation\n"
        "with Preparation(X86_64) as preparation: print(preparation.done())"
    )
    mount = f"mount -t tmpfs -o noexec tmpfs {tmp_path} && cp -r {folder} {tmp_path} && exec "
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount + shlex.join([sys.executable, "-c", code])],
        cwd=_ROOT,
        env=os.environ | {"PTESCOPE_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


_MDWE = """
import ctypes
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE: what was writable is never executable
    raise SystemExit("unsupported")
"""
_COMPILE_ONE = """
import os
from shadow.geometry import X86_64
from shadow.machine_code.compiler import compile_image
from shadow.machine_code.image import loaded
from shadow.machine_code.make import samples
name, sample = min(samples(X86_64).items(), key=lambda each: len(each[1].function.__code__.co_code))
file = os.memfd_create("image")
os.write(file, compile_image({name: sample}))
print(loaded(file).names() == {name})
"""


def test_it_compiles_and_loads_where_memory_that_was_written_cannot_be_executed() -> None:
    """So the service works with MemoryDenyWriteExecute, at its first start as well."""
    compiling = precompile._COMPILE.replace("main()", _COMPILE_ONE)
    done = subprocess.run(
        isolated_python(_MDWE + compiling),
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if done.stderr == "unsupported\n":
        pytest.skip("needs Linux 6.3")
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_damaged_file_is_not_mapped(image: bytes, part: float) -> None:
    damaged = bytearray(image)
    damaged[int(len(image) * part)] ^= 1
    with pytest.raises(ImageError):
        _loaded(bytes(damaged))
    with pytest.raises(ImageError):
        _loaded(image[: int(len(image) * part)])


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


def _child(code: str) -> str:
    """Code of a child that has no compiler."""
    return f"import os, sys\n{code}"


@pytest.fixture
def fast(image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child copies the image instead of compiling."""
    (tmp_path / "image").write_bytes(image)
    code = f"os.write(int(sys.argv[-1]), open({str(tmp_path / 'image')!r}, 'rb').read())"
    monkeypatch.setattr(precompile, "_COMPILE", _child(code))


@pytest.mark.usefixtures("fast", "nothing_loaded")
def test_without_a_folder_the_code_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = ["others may write to /odd"]
    monkeypatch.setattr(precompile, "cache_place", lambda: (None, refused))
    Table().feed(np.zeros(1, EVENT))
    assert caplog.messages == [
        "ptescope: compiling the shadow table, about 20 seconds. No folder can store it (others "
        "may write to /odd): set PTESCOPE_CACHE to one that can."
    ]


@pytest.mark.usefixtures("fast", "nothing_loaded")
def test_a_damaged_file_in_the_cache_is_made_again(
    image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / image_name(X86_64.entries)).write_bytes(image[:-1])
    monkeypatch.setattr(precompile, "cache_place", lambda: (tmp_path, []))
    with Preparation(X86_64) as preparation:
        preparation.finish()
    Table().feed(np.zeros(1, EVENT))


@pytest.mark.usefixtures("nothing_loaded")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no module named numba')", "cannot be compiled here: no module named numba"),
        ("os.kill(os.getpid(), 9)", "cannot be compiled here: -9"),
        ("os.write(int(sys.argv[-1]), b'x' * 9999)", "cannot be used here: it is no machine code"),
    ],
)
def test_a_compiler_that_fails_is_an_error_for_the_user(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precompile, "_COMPILE", _child(code))
    monkeypatch.setattr(precompile, "cache_place", lambda: (None, []))
    with pytest.raises(UnsupportedHostError, match=message):
        precompile.prepare()


def test_a_full_disk_costs_only_the_next_start(
    image: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(make, "compile_image", lambda _samples: image)
    monkeypatch.setattr(Path, "rename", full)
    assert make._made(tmp_path, X86_64) == image
    assert "No space left on device. The next start compiles again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_of_commands_that_start_together_one_compiles(
    image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = iter([image])
    monkeypatch.setattr(make, "compile_image", lambda _samples: next(images))
    assert make._made(tmp_path, X86_64) == make._made(tmp_path, X86_64) == image


def test_code_that_nobody_used_for_long_is_removed(
    image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "compile_image", lambda _samples: image)
    old, used, other = (tmp_path / name for name in ("0" * 16, "1" * 16, "other"))
    for folder in (old, used, other):
        folder.mkdir()
        for name in ("lock", image_name(X86_64.entries)):
            (folder / name).touch()
            os.utime(folder / name, (0, 0))
    os.utime(used / image_name(X86_64.entries))
    (tmp_path / ("2" * 16)).mkdir()
    make._made(tmp_path / ("2" * 16), X86_64)
    assert not old.exists()
    assert used.exists()
    assert other.exists()


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
