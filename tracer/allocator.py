"""Which memory allocator a process runs, from what it has mapped.

A shared allocator shows in the process's maps; one that is linked into the
executable shows in its symbols. What cannot be found out is left out, not
guessed.
"""

import mmap
import re
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from shadow.snapshot import Allocator

__all__ = ("find_allocator",)

_LIBRARIES = {
    "libjemalloc": "jemalloc",
    "libtcmalloc": "tcmalloc",
    "libmimalloc": "mimalloc",
}
_SYMBOLS = {
    "jemalloc": re.compile(r"^(je_|_rjem_|jemalloc_|_rjem_je_)?(mallctl|malloc_conf)$"),
    "tcmalloc": re.compile(r"^(tc_malloc|MallocExtension_ReleaseFreeMemory)$"),
    "mimalloc": re.compile(r"^mi_(malloc|option_get)$"),
}
_VERSION = re.compile(rb"(\d+\.\d+\.\d+)-0-g[0-9a-f]{40}\0")
_RELEASE = b"-0-g"
_VERSION_REACH = 64
_SETTINGS = ("MALLOC_CONF", "MALLOC_ARENA_MAX")


def _mapped_files(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    return list(dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if "/" in line))


def _settings(pid: int) -> dict[str, str]:
    """Settings of allocators in the environment that the program was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {
        name: value
        for name, value in found.items()
        if name in _SETTINGS or name.startswith(("TCMALLOC_", "MIMALLOC_", "_RJEM_MALLOC_CONF"))
    }


def _jemalloc_version(path: str) -> str | None:
    """The version string that a release of jemalloc keeps for mallctl("version")."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        # Looked for by its fixed part: libraries may have hundreds of megabytes.
        at = text.find(_RELEASE)
        while at >= 0:
            match = _VERSION.search(text[max(at - _VERSION_REACH, 0) : at + _VERSION_REACH])
            if match:
                return match[1].decode()
            at = text.find(_RELEASE, at + 1)
    return None


def _holds_jemalloc(path: str) -> bool:
    """Whether a library has a jemalloc of its own, under whatever prefix."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b"mallctl\0") >= 0


def _linked_in(path: str) -> str | None:
    """The allocator whose symbols the executable defines."""
    with open(path, "rb") as file:
        elf = ELFFile(file)
        for section in elf.iter_sections():
            if not isinstance(section, SymbolTableSection):
                continue
            for symbol in section.iter_symbols():
                if symbol["st_shndx"] == "SHN_UNDEF":
                    continue
                for name, pattern in _SYMBOLS.items():
                    if pattern.match(symbol.name):
                        return name
    return None


def find_allocator(pid: int) -> Allocator | None:
    """The allocator of a process, or None if nothing can be said.

    Falls back to glibc when only its malloc is there.
    """
    try:
        files, settings = _mapped_files(pid), _settings(pid)
        root = f"/proc/{pid}/root"
        for path in files:
            for prefix, name in _LIBRARIES.items():
                if Path(path).name.startswith(prefix):
                    version = _jemalloc_version(root + path) if name == "jemalloc" else None
                    return Allocator(name, version, f"shared: {path}", settings)
        exe = f"/proc/{pid}/exe"
        inside = _linked_in(exe)
        if inside:
            version = _jemalloc_version(exe) if inside == "jemalloc" else None
            return Allocator(inside, version, "in the executable", settings)
        for path in files:
            if ".so" in Path(path).name and _holds_jemalloc(root + path):
                version = _jemalloc_version(root + path)
                if version:  # otherwise it only calls somebody else's
                    return Allocator("jemalloc", version, f"inside: {path}", settings)
        for path in files:
            if Path(path).name.startswith("libc.so"):
                return Allocator("glibc", None, f"shared: {path}", settings)
    except (OSError, ValueError, ELFError):
        return None
    return None
