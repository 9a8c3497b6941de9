# SPDX-License-Identifier: GPL-2.0-only
"""A file of machine code, and how a process maps and calls it.

The file begins with `MAGIC`, the SHA-256 digest of all that follows, the length of a header in
JSON, and the header. At the next multiple of `ALIGNMENT` follows the code, which contains only
relative addresses: it is mapped from the file, never written, so it works where memory cannot be
both written and executed, and processes share it. The table of the addresses of libc's functions
that it needs lies behind it in memory.
"""

import ctypes
import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = (
    "ALIGNMENT",
    "Function",
    "Image",
    "ImageError",
    "Layout",
    "aligned",
    "loaded",
    "parsed",
    "written",
)

MAGIC = b"ptescope machine code 1\n"
ALIGNMENT = 1 << 16
"""The largest page size of a supported architecture: a file can be mapped from there."""
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_MAP_FIXED = 0x10
_MOST_BYTES = 64 << 20
_RETURNED = (0, -2)
"""numba's statuses of a function that raised nothing (numba/core/callconv.py)."""


class ImageError(Exception):
    """The file is damaged, or from another version."""


@dataclass(frozen=True)
class Function:
    """A function that Python calls.

    Attributes:
        offset: of its first instruction in the code, bytes.
        arguments: the kinds of its arguments, see `shadow.table.compiled.Entry`.
        words: how many words they take.
    """

    offset: int
    arguments: str
    words: int


@dataclass(frozen=True)
class Layout:
    """The header.

    Attributes:
        size: bytes of code.
        externals: the functions of libc that it calls, in the order of their addresses, which
            begin at the first multiple of `ALIGNMENT` behind the code.
        functions: by name.
    """

    size: int
    externals: list[str]
    functions: dict[str, Function]


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def written(layout: Layout, code: bytes) -> bytes:
    """The content of the file."""
    header = json.dumps(asdict(layout)).encode()
    body = len(header).to_bytes(_LENGTH_BYTES, "little") + header
    front = len(MAGIC) + _DIGEST_BYTES
    body = body.ljust(aligned(front + len(body)) - front, b"\0") + code
    return MAGIC + hashlib.sha256(body).digest() + body


class Image:
    """Machine code in this process.

    Args:
        base: its address.
        layout: what is where.
    """

    def __init__(self, base: int, layout: Layout) -> None:
        self._base, self._layout = base, layout
        self._functions: dict[str, Any] = {}

    def names(self) -> set[str]:
        """The functions that it has."""
        return set(self._layout.functions)

    def call(self, name: str, arguments: str, words: Sequence[int]) -> int:
        """Call a function without the global interpreter lock.

        Args:
            name: its name.
            arguments: the kinds of these arguments.
            words: the arguments; memory that they point to must stay until the return.

        Returns:
            Its result, or 0.

        Raises:
            TypeError: it was compiled for other kinds of arguments.
            RuntimeError: it raised.
        """
        function = self._layout.functions[name]
        if arguments != function.arguments:
            raise TypeError(f"{name} takes {function.arguments}, not {arguments}")
        code = self._functions.get(name)
        if code is None:
            types = (ctypes.c_int64,) * (2 + function.words)
            code = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(self._base + function.offset)
            self._functions[name] = code
        result, exception = ctypes.c_int64(), ctypes.c_int64()
        status = code(ctypes.addressof(result), ctypes.addressof(exception), *words)
        if status not in _RETURNED:
            raise RuntimeError(f"{name} ended with status {status}")
        return result.value


def parsed(content: bytes) -> tuple[Layout, int]:
    """The header, and the offset of the code in the file.

    Raises:
        ImageError: the file is damaged.
    """
    front = len(MAGIC) + _DIGEST_BYTES
    body = memoryview(content)[front:]
    if content[: len(MAGIC)] != MAGIC:
        raise ImageError("it is no machine code of this version")
    if hashlib.sha256(body).digest() != content[len(MAGIC) : front]:
        raise ImageError("it is damaged")
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    fields = json.loads(bytes(body[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    functions = {name: Function(**function) for name, function in fields["functions"].items()}
    layout = Layout(fields["size"], fields["externals"], functions)
    return layout, aligned(front + _LENGTH_BYTES + length)


def loaded(file: int) -> Image:
    """Map the machine code of an open file.

    Args:
        file: its descriptor.

    Raises:
        ImageError: the file is damaged.
        OSError: it cannot be mapped.
    """
    content = os.pread(file, _MOST_BYTES, 0)
    layout, start = parsed(content)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    code_bytes = aligned(layout.size)

    def mapped(place: int | None, size: int, access: int, flags: int, fd: int, offset: int) -> int:
        address = libc.mmap(place, size, access, flags, fd, offset)
        if address is None or address == ctypes.c_void_p(-1).value:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot map machine code: {os.strerror(number)}")
        return int(address)

    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    access = mmap.PROT_READ | mmap.PROT_WRITE
    base = mapped(None, code_bytes + ALIGNMENT, access, anonymous, -1, 0)
    code = layout.size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | _MAP_FIXED
    try:
        mapped(base, *code, file, start)
    except PermissionError:  # the file system is mounted noexec
        copy = os.memfd_create("ptescope machine code")
        try:
            os.write(copy, content)
            mapped(base, *code, copy, start)
        finally:
            os.close(copy)
    addresses = (ctypes.c_void_p * len(layout.externals)).from_address(base + code_bytes)
    for place, name in enumerate(layout.externals):
        addresses[place] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value
    libc.mprotect(base + code_bytes, ALIGNMENT, mmap.PROT_READ)
    return Image(base, layout)
