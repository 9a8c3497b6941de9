# SPDX-License-Identifier: GPL-2.0-only
"""Compile BPF C in another process, and keep the result for later starts.

The file is named by a digest of everything that it depends on: the sources and headers, the
macros, which have the offsets in this kernel's structures, the kernel's release, and bcc.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from shadow.cache_folder import cache_folder
from shadow.errors import NotPermittedError, PtescopeError, UnsupportedHostError
from shadow.isolated_python import isolated_python
from shadow.private_file import NewFile
from tracer.bpf.object import BpfObject
from tracer.capabilities import missing_capabilities

__all__ = ("BPF_FOLDER", "compiled", "refused")

BPF_FOLDER = Path(__file__).parent

_COMPILE = """
import json
from pathlib import Path
from shadow.errors import PtescopeError
from tracer.bpf.compiler import compile_object
sources, defines = json.load(sys.stdin)
try:
    sys.stdout.write(compile_object([*map(Path, sources)], defines).to_json())
except PtescopeError as error:
    sys.exit(f"{error}")
except Exception as error:  # bcc raises bare Exception
    sys.exit(f"bcc: {error}")
"""


def compiled(sources: Sequence[Path], defines: Mapping[str, int]) -> BpfObject:
    """The compiled program, from the cache if it is there.

    Args:
        sources: the BPF C, in the order in which it is compiled.
        defines: macros for the compiler.

    Raises:
        UnsupportedHostError: the program does not compile on this host.
        NotPermittedError: the kernel refuses its maps for lack of rights.
    """
    return _compiled(tuple(sources), tuple(f"{name}={value}" for name, value in defines.items()))


@cache
def _compiled(sources: tuple[Path, ...], defines: tuple[str, ...]) -> BpfObject:
    folder, _ = cache_folder("bpf")
    file = folder / f"{_digest(sources, defines)}.json" if folder else None
    if file:
        with suppress(OSError, ValueError):
            return BpfObject.from_json(file.read_text())
    made = _compile_elsewhere(sources, defines)
    if file:
        with (
            suppress(OSError, PtescopeError),
            NewFile(file, force=True) as new,
            new.opened("w") as stream,
        ):
            stream.write(made.to_json())
    return made


def _digest(sources: tuple[Path, ...], defines: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(defines).encode())
    digest.update(repr(os.uname()[2:]).encode())
    ours = (BPF_FOLDER / name for name in ("compiler.py", "object.py", "syscall.py"))
    for path in (*sources, *sorted(BPF_FOLDER.glob("include/**/*.h")), *ours):
        digest.update(path.read_bytes())
    found = importlib.util.find_spec("bcc")
    if found and found.origin:
        state = Path(found.origin).stat()
        digest.update(f"{found.origin} {state.st_mtime_ns} {state.st_size}".encode())
    return digest.hexdigest()[:24]


def _compile_elsewhere(sources: tuple[Path, ...], defines: tuple[str, ...]) -> BpfObject:
    done = subprocess.run(
        isolated_python(_COMPILE),
        input=json.dumps([[str(path) for path in sources], defines]),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        try:
            return BpfObject.from_json(done.stdout)
        except ValueError as error:
            raise UnsupportedHostError(f"The BPF program cannot be compiled: {error}.") from error
    compiles = " error: " not in done.stderr
    if "Operation not permitted" in done.stderr or (compiles and os.geteuid() != 0):
        raise refused()
    raise UnsupportedHostError(_reason(done.stderr))


def refused() -> NotPermittedError:
    """The error where the kernel refuses a BPF program or its maps for lack of rights."""
    return NotPermittedError(
        "The kernel refused to load the BPF program; "
        f"{missing_capabilities('CAP_BPF', 'CAP_PERFMON')}."
    )


def _reason(said: str) -> str:
    """The first error of the compiler, or the last line of what it said."""
    lines = said.strip().splitlines() or ["the compiler ended without a message"]
    if not lines[-1].startswith("bcc: "):
        return lines[-1]
    errors = [line for line in lines if " error: " in line]
    return f"The BPF program cannot be compiled: {(errors or lines[-1:])[0]}"
