# SPDX-License-Identifier: GPL-2.0-only
"""The only module that imports bcc: it compiles BPF C.

It runs in a process of its own (`tracer.bpf.compile`), because clang and LLVM take 100 MiB and
are of no more use once the program is compiled.

The BPF C is compiled with the shim headers in `tracer/bpf/include` and the UAPI headers of the
C library's kernel headers package, so no headers of the running kernel are needed or read. bcc
is a system package: on PyPI, its name belongs to another project.
"""

import ctypes
import importlib
import os
import struct
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shadow.errors import UnsupportedHostError
from tracer.bpf.compile import BPF_FOLDER
from tracer.bpf.object import BpfObject, Function, MapSpec
from tracer.bpf.syscall import map_spec
from tracer.system_packages import how_to_install

__all__ = ("compile_object", "import_bcc", "uapi_folders")

_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_64 = 0x18
"""BPF_LD | BPF_IMM | BPF_DW, an instruction of two words."""
_FROM_MAP = 1
"""BPF_PSEUDO_MAP_FD: its constant is a map's file descriptor."""


def import_bcc() -> Any:
    """Import the bcc module of the distribution.

    Raises:
        UnsupportedHostError: bcc is missing, or `bcc` is the other project.
    """
    try:
        bcc = importlib.import_module("bcc")
    except ImportError as error:
        raise UnsupportedHostError(
            f"Python module bcc cannot be imported ({error}). It is a system package: "
            f"{how_to_install('bcc')}, and run ptescope with the distribution's Python or a "
            "virtual environment made with --system-site-packages."
        ) from error
    if not hasattr(bcc, "BPF"):
        raise UnsupportedHostError(
            f"The module bcc at {bcc.__file__} is not the BPF Compiler Collection but the "
            "unrelated project of that name on PyPI. Remove it (pip uninstall bcc); the "
            f"real one is a system package: {how_to_install('bcc')}."
        )
    return bcc


def uapi_folders() -> list[Path]:
    """Folders of the UAPI headers: linux/ and, on Debian in a separate folder, asm/.

    Raises:
        UnsupportedHostError: they are missing.
    """
    triplet = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    folders = [Path("/usr/include"), Path("/usr/include") / triplet]
    if not any((folder / "linux" / "types.h").exists() for folder in folders):
        raise UnsupportedHostError(
            "The kernel's UAPI headers (/usr/include/linux) are missing: "
            f"{how_to_install('headers')}."
        )
    return folders


def _names(lib: Any, module: Any, kind: str) -> list[str]:
    """The names of all functions or tables of a compiled module."""
    count, name = getattr(lib, f"bpf_num_{kind}s"), getattr(lib, f"bpf_{kind}_name")
    count.argtypes, count.restype = (ctypes.c_void_p,), ctypes.c_size_t
    name.argtypes, name.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_char_p
    return [name(module, number).decode() for number in range(count(module))]


def _function(code: bytes, maps: dict[int, str]) -> Function:
    """A function, and where its code names maps by the file descriptors of this process."""
    uses = []
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, _, number = _INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_64 and registers >> 4 == _FROM_MAP:
            uses.append((at, maps[number]))
    return Function(code, tuple(uses))


def compile_object(sources: Sequence[Path], defines: Sequence[str]) -> BpfObject:
    """Compile BPF C; bcc also creates its maps, which end with this process.

    Args:
        sources: the files, in the order in which they are compiled.
        defines: macros, NAME=VALUE.

    Raises:
        UnsupportedHostError: bcc or headers are missing.
        Exception: the code does not compile, or the kernel refuses a map. The compiler's
            messages are on standard error.
    """
    bcc = import_bcc()
    flags = [f"-I{folder}" for folder in uapi_folders()]
    flags += [f"-D{define}" for define in defines]
    flags += ["-Wno-unused-command-line-argument", "-Wno-macro-redefined"]
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_FOLDER)
    text = "".join(f'#line 1 "{path.name}"\n{path.read_text()}' for path in sources)
    bpf = bcc.BPF(text=text.encode(), cflags=flags)
    descriptors = {bpf[name.encode()].map_fd: name for name in _names(bcc.lib, bpf.module, "table")}
    return BpfObject(
        maps={name: MapSpec(*map_spec(fd)) for fd, name in descriptors.items()},
        functions={
            name: _function(bpf.dump_func(name.encode()), descriptors)
            for name in _names(bcc.lib, bpf.module, "function")
        },
    )
