# SPDX-License-Identifier: GPL-2.0-only
"""The executable mappings of a process, and which files are opened for them."""

import ctypes
import os
from pathlib import Path

import pytest

from tracer.stacks.modules import CodeMap, Module, code_map, open_module, open_root, own_vdso


def _module(name: str, start: int, end: int, inode: int = 1) -> Module:
    return Module(name, start, end, f"{start:x}-{end:x}", inode)


def test_this_process_has_its_program_and_the_c_library() -> None:
    found = code_map(os.getpid())
    names = [module.short_name for module in found.modules]
    assert "libc.so.6" in names
    assert "[vdso]" in names
    assert [module.start for module in found.modules] == sorted(m.start for m in found.modules)
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert address
    where = found.at(address)
    assert where
    assert where.short_name == "libc.so.6"
    assert found.at(16) is None


def test_the_file_of_a_module_is_opened_but_no_other() -> None:
    pid, root = os.getpid(), open_root(os.getpid())
    module = next(m for m in code_map(pid).modules if m.short_name == "libc.so.6")
    fd = open_module(pid, root, module)
    assert fd is not None
    assert os.fstat(fd).st_ino == module.inode
    os.close(fd)
    other = Module(module.name, module.start, module.end, "0-1000", module.inode + 1)
    assert open_module(pid, root, other) is None


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero"), tmp_path):
        module = Module(str(path), 0x1000, 0x2000, "1000-2000", path.stat().st_ino)
        assert open_module(os.getpid(), open_root(os.getpid()), module) is None


def test_a_root_outlives_its_process() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    root = open_root(pid)
    os.waitpid(pid, 0)
    assert root is not None
    assert open_root(pid) is None
    python = Path(f"/proc/{os.getpid()}/exe").resolve()
    module = Module(str(python), 0, 0x1000, "0-1000", python.stat().st_ino)
    fd = open_module(pid, root, module)
    assert fd is not None
    os.close(fd)


def test_the_vdso_is_an_image() -> None:
    fd = own_vdso()
    assert fd is not None
    assert os.pread(fd, 4, 0) == b"\x7fELF"


def test_former_modules_stay_where_nothing_else_is() -> None:
    former = CodeMap([_module("a", 0x1000, 0x3000), _module("b", 0x5000, 0x7000)])
    now = CodeMap([_module("c", 0x2000, 0x4000), _module("d", 0x9000, 0xA000)])
    names = [module.name for module in now.with_former(former).modules]
    assert names == ["c", "b", "d"]
    assert now.with_former(former).at(0x2800) == now.modules[0]
    assert now.with_former(now).modules == now.modules


@pytest.mark.parametrize(
    ("start", "end"), [(0x1000, 0x2001), (0x3FFF, 0x5000), (0x2000, 0x4000), (0x2800, 0x2900)]
)
def test_what_overlaps_goes(start: int, end: int) -> None:
    now = CodeMap([_module("new", 0x2000, 0x4000)])
    assert now.with_former(CodeMap([_module("old", start, end)])).modules == now.modules
