# SPDX-License-Identifier: GPL-2.0-only
"""The only module that imports bcc: it compiles, loads and attaches BPF programs.

The BPF C is compiled with the shim headers in `tracer/bpf/include` and the UAPI headers of the
C library's kernel headers package, so no headers of the running kernel are needed or read. bcc
is a system package: on PyPI, its name belongs to another project.
"""

import importlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from shadow.errors import NotPermittedError, PtescopeError, UnsupportedHostError
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.syscall import attach_tracepoint, attach_tracing, load_tracing
from tracer.bpf.tracefs import tracepoint_id
from tracer.capabilities import missing_capabilities

__all__ = ("BPF_FOLDER", "BpfProgram", "import_bcc")

BPF_FOLDER = Path(__file__).parent

_NO_RIGHTS = ("Operation not permitted", "Permission denied")
_PACKAGE = "apt-get install python3-bpfcc"


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
    """Folders of the UAPI headers: linux/ and, on Debian in a separate folder, asm/."""
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
    """Collect file descriptor 2, to which bcc's compiler writes, for the error message."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _last_line(said: str, otherwise: str) -> str:
    """The last message of the compiler or the verifier, without statistics."""
    lines = [line for line in said.strip().splitlines() if not line.startswith("processed ")]
    errors = [line for line in lines if " error: " in line]
    return (errors[:1] or lines[-1:] or [otherwise])[0]


def _raise_for_load(reason: str, said: str) -> None:
    if os.geteuid() != 0 or "Operation not permitted" in reason + said:
        raise NotPermittedError(
            "The kernel refused to load the BPF program; "
            f"{missing_capabilities('CAP_BPF', 'CAP_PERFMON')}."
        )
    raise UnsupportedHostError(
        f"The BPF program cannot be compiled or loaded: {_last_line(said, reason)}"
    )


class BpfProgram:
    """One compiled BPF program with its maps.

    Args:
        sources: the BPF C, in the order in which it is compiled.
        defines: macros for the compiler.

    Raises:
        UnsupportedHostError: the program does not compile on this host.
        NotPermittedError: the kernel refuses the program for lack of rights.
    """

    def __init__(self, sources: Sequence[Path], defines: Mapping[str, int]) -> None:
        bcc = import_bcc()
        flags = [f"-I{folder}" for folder in _uapi_folders()]
        flags += [f"-D{name}={value}" for name, value in defines.items()]
        flags += ["-Wno-unused-command-line-argument", "-Wno-macro-redefined"]
        before = os.environ.get("BCC_KERNEL_SOURCE")
        os.environ["BCC_KERNEL_SOURCE"] = str(BPF_FOLDER)
        text = "".join(f'#line 1 "{path.name}"\n{path.read_text()}' for path in sources)
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
        self._links: list[int] = []

    def attach(self, hook: Hook, function_id: int | None = None) -> Callable[[], None]:
        """Load a function and attach it.

        Args:
            hook: the function, and the place.
            function_id: for fentry and fexit: BTF id of the kernel function.

        Returns:
            A function that detaches it.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: this kernel lacks the place, or refuses the attachment.
        """
        with TemporaryFile("w+") as said:
            try:
                with _stderr_to(said):
                    return self._attach(hook, function_id)
            except PtescopeError as error:
                raise type(error)(f"{hook.attach_type.value} {hook.where}: {error}") from error
            except Exception as error:  # bcc raises bare Exception
                said.seek(0)
                reason = _last_line(said.read(), str(error))
                refused = any(words in reason for words in _NO_RIGHTS)
                family = NotPermittedError if refused else UnsupportedHostError
                raise family(f"{hook.attach_type.value} {hook.where}: {reason}") from error

    def _attach(self, hook: Hook, function_id: int | None) -> Callable[[], None]:
        bpf, where, function = self._bpf, hook.where.encode(), hook.function.encode()
        match hook.attach_type:
            case AttachType.RAW_TRACEPOINT:
                # bcc attaches only one program to each raw tracepoint.
                loaded = bpf.load_func(function, self._bcc.BPF.RAW_TRACEPOINT)
                link = self._bcc.lib.bpf_attach_raw_tracepoint(loaded.fd, where)
                if link < 0:
                    raise UnsupportedHostError("this kernel has no such tracepoint")
                return self._link(link)
            case AttachType.TRACEPOINT:
                number = tracepoint_id(hook.where)
                loaded = bpf.load_func(function, self._bcc.BPF.TRACEPOINT)
                return self._link(attach_tracepoint(loaded.fd, number))
            case AttachType.KPROBE:
                bpf.attach_kprobe(event=where, fn_name=function)
                return lambda: bpf.detach_kprobe(event=where, fn_name=function)
            case AttachType.KRETPROBE:
                bpf.attach_kretprobe(event=where, fn_name=function)
                return lambda: bpf.detach_kretprobe(event=where, fn_name=function)
        if function_id is None:
            raise UnsupportedHostError("this kernel's BTF has no such function")
        code = bpf.dump_func(function)
        tracing = load_tracing(code, function_id, at_exit=hook.attach_type is AttachType.FEXIT)
        return self._link(attach_tracing(tracing))

    def _link(self, link: int) -> Callable[[], None]:
        """Keep a link open, which its close detaches; returns the function that closes it."""
        self._links.append(link)

        def detach() -> None:
            self._links.remove(link)
            os.close(link)

        return detach

    def load(self, name: str) -> int:
        """Load a function for `run_once`; returns its file descriptor.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: the kernel refuses the function.
        """
        with TemporaryFile("w+") as said:
            try:
                with _stderr_to(said):
                    function = self._bpf.load_func(name.encode(), self._bcc.BPF.RAW_TRACEPOINT)
            except Exception as error:
                said.seek(0)
                _raise_for_load(str(error), said.read())
        fd: int = function.fd
        return fd

    def map_fd(self, name: str) -> int:
        """The file descriptor of a map."""
        fd: int = self._bpf[name.encode()].map_fd
        return fd

    def update(self, name: str, key: int, *fields: int | tuple[int, ...]) -> None:
        """Set an element of a map whose key is an integer; a tuple is a structure in it."""
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
        """Remove an element of a hash map, if it exists."""
        table = self._bpf[name.encode()]
        with suppress(KeyError):
            del table[table.Key(key)]

    def close(self) -> None:
        """Detach everything and free the maps."""
        if self._links:
            # Each close waits for a grace period: 15 take 1.1 s in turn, 0.5 s in parallel.
            with ThreadPoolExecutor(len(self._links)) as threads:
                list(threads.map(os.close, self._links))
            self._links.clear()
        self._bpf.cleanup()
