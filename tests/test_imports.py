# SPDX-License-Identifier: GPL-2.0-only
"""Importing is pure: no module of the product does anything before a function of it is called."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]

_IMPORT_ALL = """
import importlib, json, logging, os, signal, sys, threading
import numba, pyarrow  # these have threads and settings of their own

def state():
    return {
        "environment": dict(os.environ),
        "handlers": {int(n): repr(signal.getsignal(n)) for n in signal.valid_signals()},
        "threads": [thread.name for thread in threading.enumerate()],
        "tasks": len(os.listdir("/proc/self/task")),
        "numba": numba.config.CACHE_DIR,
        "folder": os.getcwd(),
        "excepthook": repr(sys.excepthook),
        "switch": sys.getswitchinterval(),
        "handlers of the log": len(logging.getLogger().handlers),
    }

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([before, state()]))
"""


def _modules() -> list[str]:
    paths = [*(_ROOT / "shadow").rglob("*.py"), *(_ROOT / "tracer").rglob("*.py")]
    names = [path.relative_to(_ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return [*sorted(name.removesuffix(".__init__") for name in names), "ptescope"]


def test_importing_everything_changes_nothing(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "not" / "there"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PTESCOPE_CACHE": str(cache),
        "XDG_CACHE_HOME": str(home / "xdg"),
        "OPENBLAS_NUM_THREADS": "1",  # numpy starts its threads when it is imported
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, *_modules()],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    before, after = json.loads(done.stdout)
    assert after == before
    assert list(home.iterdir()) == []
    assert not cache.parent.exists()


_ACTS = {
    *("Thread", "ThreadPoolExecutor", "signal", "mkdir", "setdefault", "basicConfig", "Popen"),
    *("run", "open", "write_text", "write_bytes", "putenv", "setrlimit"),
}
_CLOCKS = {"monotonic", "monotonic_ns", "time", "time_ns", "perf_counter", "clock_gettime", "now"}


def _calls(tree: ast.AST, *, at_import: bool) -> list[str]:
    """The functions that a module calls, as they are written.

    Args:
        tree: the module or a part of it.
        at_import: only calls that run when it is imported.
    """
    found: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue  # its body runs later
        if at_import and isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Call):
            found.append(ast.unparse(node.func))
        found += _calls(node, at_import=at_import)
    return found


def _tree(name: str) -> ast.Module:
    path = _ROOT / name.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(source.read_text())


def test_no_module_makes_a_thread_a_file_or_a_setting_at_import() -> None:
    """The test above sees only effects that last."""
    for name in _modules():
        calls = _calls(_tree(name), at_import=True)
        assert not [call for call in calls if call.split(".")[-1] in _ACTS], name


def test_only_the_writer_of_traces_reads_a_clock() -> None:
    """Callers hand the time to the model, so that a replay gives what the live run gave."""
    readers = {
        name
        for name in _modules()
        if name.startswith("shadow")
        for call in _calls(_tree(name), at_import=False)
        if call.split(".")[0] in ("time", "datetime") and call.split(".")[-1] in _CLOCKS
    }
    assert readers == {"shadow.trace.write"}
