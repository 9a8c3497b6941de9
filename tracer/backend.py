"""bcc, seen from one place: compile, load and attach; nothing else imports it.

The BPF C is compiled against the shim headers in `tracer/bpf/include` and the
UAPI headers of the C library's kernel headers package, so no kernel headers
are needed and none are looked at. bcc is a system package: on PyPI its name
belongs to another project.
"""

import ctypes
import importlib
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from shadow.errors import NotPermittedError, UnsupportedHostError

__all__ = ("BPF_FOLDER", "Program", "import_bcc", "run_once")

BPF_FOLDER = Path(__file__).parent / "bpf"

_PACKAGE = "apt-get install python3-bpfcc"
_SYS_BPF = 321  # x86-64
_PROG_TEST_RUN = 10
_TEST_RUN_ATTR = struct.Struct("<IIIIQQIIIIQQIII4x")  # union bpf_attr, include/uapi/linux/bpf.h


def import_bcc() -> Any:
    """The bcc module of the distribution.

    Raises:
        UnsupportedHostError: bcc is missing, or another project's `bcc` stands in its place.
    """
    try:
        bcc = importlib.import_module("bcc")
    except ImportError as error:
        raise UnsupportedHostError(
            f"Python module bcc cannot be imported ({error}). It is a system package: "
            f"{_PACKAGE}, and run ptescope with the distribution's Python or a virtual "
            "environment made with --system-site-packages."
        ) from error
    if not hasattr(bcc, "BPF"):
        raise UnsupportedHostError(
            f"The module bcc at {bcc.__file__} is not the BPF Compiler Collection but the "
            "unrelated project of that name on PyPI. Remove it (pip uninstall bcc); the "
            f"real one is a system package: {_PACKAGE}."
        )
    return bcc


def _uapi_folders() -> list[Path]:
    """Where the UAPI headers are: linux/ and, on Debian in its own folder, asm/."""
    triplet = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
    folders = [Path("/usr/include"), Path("/usr/include") / triplet]
    if not any((folder / "linux" / "types.h").exists() for folder in folders):
        raise UnsupportedHostError(
            "The kernel's UAPI headers (/usr/include/linux) are missing: "
            "apt-get install linux-libc-dev."
        )
    return folders


@contextmanager
def _stderr_to(file: Any) -> Iterator[None]:
    """bcc's compiler writes to file descriptor 2; keep what it says for the message."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _raise_for_load(reason: str, said: str) -> None:
    if os.geteuid() != 0 or "Operation not permitted" in reason + said:
        raise NotPermittedError(
            "The kernel refused to load the BPF program; this needs root, or CAP_BPF and "
            "CAP_PERFMON."
        )
    last = said.strip().splitlines()[-1:] or [reason]
    raise UnsupportedHostError(f"The BPF program cannot be compiled or loaded here: {last[0]}")


def run_once(fd: int) -> None:
    """Run a loaded raw-tracepoint function here and now, attached to nothing.

    Raises:
        OSError: the kernel refuses (BPF_PROG_TEST_RUN for these came with v5.10).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attr = ctypes.create_string_buffer(_TEST_RUN_ATTR.pack(fd, *[0] * 14), _TEST_RUN_ATTR.size)
    if libc.syscall(_SYS_BPF, _PROG_TEST_RUN, attr, _TEST_RUN_ATTR.size) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Program:
    """One compiled BPF program with its maps.

    Args:
        source: the BPF C.
        defines: macros for it.

    Raises:
        UnsupportedHostError: it cannot be compiled here.
        NotPermittedError: the kernel refuses it for lack of rights.
    """

    def __init__(self, source: Path, defines: Mapping[str, int]) -> None:
        bcc = import_bcc()
        flags = [f"-I{folder}" for folder in _uapi_folders()]
        flags += [f"-D{name}={value}" for name, value in defines.items()]
        flags += ["-Wno-unused-command-line-argument", "-Wno-macro-redefined"]
        before = os.environ.get("BCC_KERNEL_SOURCE")
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_FOLDER)
        text = source.read_text()
        with TemporaryFile("w+") as said:
            try:
                with _stderr_to(said):
                    self._bpf = bcc.BPF(text=text.encode(), cflags=flags)
            except Exception as error:  # bcc raises bare Exception
                said.seek(0)
                _raise_for_load(str(error), said.read())
            finally:
                if before is None:
                    del os.environ["BCC_KERNEL_SOURCE"]
                else:
                    os.environ["BCC_KERNEL_SOURCE"] = before
        self._bcc = bcc

    def attach_raw_tracepoint(self, name: str) -> None:
        """Load the function `on_NAME` and attach it to the raw tracepoint NAME.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: the kernel has no such tracepoint.
        """
        with TemporaryFile("w+") as said:
            try:
                with _stderr_to(said):
                    self._bpf.attach_raw_tracepoint(tp=name.encode(), fn_name=f"on_{name}".encode())
            except Exception as error:
                said.seek(0)
                text = said.read()
                if "Failed to attach BPF" in str(error) and os.geteuid() == 0:
                    raise UnsupportedHostError(
                        f"This kernel has no tracepoint {name}, which ptescope cannot do without."
                    ) from error
                _raise_for_load(str(error), text)

    def load(self, name: str) -> int:
        """Load the function `on_NAME` for `run`; returns its file descriptor.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: the kernel refuses the function.
        """
        with TemporaryFile("w+") as said:
            try:
                with _stderr_to(said):
                    function = self._bpf.load_func(
                        f"on_{name}".encode(), self._bcc.BPF.RAW_TRACEPOINT
                    )
            except Exception as error:
                said.seek(0)
                _raise_for_load(str(error), said.read())
        fd: int = function.fd
        return fd

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        fd: int = self._bpf[name.encode()].map_fd
        return fd

    def update(self, name: str, key: int, *fields: int) -> None:
        """Set an element of a hash map whose key is an integer."""
        table = self._bpf[name.encode()]
        table[table.Key(key)] = table.Leaf(*fields)

    def lookup(self, name: str, key: int) -> Any:
        """An element of a hash map, with the C structure's fields; None if absent."""
        table = self._bpf[name.encode()]
        try:
            return table[table.Key(key)]
        except KeyError:
            return None

    def delete(self, name: str, key: int) -> None:
        """Remove an element of a hash map, if it is there."""
        table = self._bpf[name.encode()]
        with suppress(KeyError):
            del table[table.Key(key)]

    def close(self) -> None:
        """Detach everything and free the maps."""
        self._bpf.cleanup()
