# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2): maps, programs, links, test runs.

bcc only compiles, in another process, so that a run needs neither its memory nor its time.
Source of the layouts: union bpf_attr in include/uapi/linux/bpf.h.
"""

import ctypes
import errno
import os
from contextlib import suppress
from enum import IntEnum
from functools import cache
from typing import Any

from shadow.errors import NotPermittedError, UnsupportedHostError
from tracer.arch import running

__all__ = (
    "ProgramType",
    "create_map",
    "delete_element",
    "load_program",
    "look_up_element",
    "map_spec",
    "missed_runs",
    "next_key",
    "open_raw_tracepoint",
    "run_once",
    "update_element",
)

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_OBJECT_INFO = 15
_RAW_TRACEPOINT_OPEN = 17
_TRACE_FENTRY = 24
_TRACE_FEXIT = 25
_INSTRUCTION_BYTES = 8
_LOG_BYTES = 1 << 20
_ENOTSUPP = 524


class ProgramType(IntEnum):
    """Kinds of programs, of enum bpf_prog_type; FENTRY and FEXIT differ in the attach type."""

    KPROBE = 2
    TRACEPOINT = 5
    PERF_EVENT = 7
    RAW_TRACEPOINT = 17
    TRACING = 26


class _MapCreate(ctypes.Structure):
    _fields_ = (
        ("map_type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("numa_node", ctypes.c_uint32),
        ("map_name", ctypes.c_char * 16),
    )


class _Element(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class _ObjectInfo(ctypes.Structure):
    _fields_ = (
        ("bpf_fd", ctypes.c_uint32),
        ("info_len", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    )


class _MapInfo(ctypes.Structure):
    """The first members of struct bpf_map_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The first members of struct bpf_prog_info."""

    _fields_ = (("others", ctypes.c_uint8 * 208), ("recursion_misses", ctypes.c_uint64))


class _ProgramLoad(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("func_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("line_info_cnt", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
    )


class _LinkOpen(ctypes.Structure):
    """BPF_RAW_TRACEPOINT_OPEN; without a name, the program itself states its place."""

    _fields_ = (("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32))


class _TestRun(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attr: ctypes.Structure) -> int:
    number = running().calls["bpf"]
    result: int = _libc().syscall(number, command, ctypes.byref(attr), ctypes.sizeof(attr))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, "not supported" if error == _ENOTSUPP else os.strerror(error))
    return result


def create_map(name: str, spec: tuple[int, int, int, int, int]) -> int:
    """Create a map; returns its file descriptor.

    Args:
        name: the kernel keeps its first 15 characters.
        spec: type, bytes of a key and of a value, most entries, flags.

    Raises:
        OSError: the kernel refuses.
    """
    kind, key, value, entries, flags = spec
    attr = _MapCreate(kind, key, value, entries, flags, map_name=name.encode()[:15])
    return _bpf(_MAP_CREATE, attr)


def map_spec(descriptor: int) -> tuple[int, int, int, int, int]:
    """What `create_map` needs to create a map like this one."""
    info = _MapInfo()
    _bpf(
        _OBJECT_INFO,
        _ObjectInfo(descriptor, ctypes.sizeof(info), ctypes.addressof(info)),
    )
    return info.type, info.key_size, info.value_size, info.max_entries, info.map_flags


def _element(command: int, descriptor: int, key: bytes, value: Any = None) -> None:
    held = ctypes.create_string_buffer(key, len(key))
    attr = _Element(descriptor, 0, ctypes.addressof(held))
    if value is not None:  # the kernel refuses members that a command does not use
        attr.value = ctypes.addressof(value)
    _bpf(command, attr)


def update_element(descriptor: int, key: bytes, value: bytes) -> None:
    """Set an element of a map.

    Raises:
        OSError: the map is full, or lacks the key.
    """
    _element(_MAP_UPDATE, descriptor, key, ctypes.create_string_buffer(value, len(value)))


def look_up_element(descriptor: int, key: bytes, value_bytes: int) -> bytes | None:
    """The value of an element of a map; None if the map lacks the key."""
    value = ctypes.create_string_buffer(value_bytes)
    try:
        _element(_MAP_LOOKUP, descriptor, key, value)
    except FileNotFoundError:
        return None
    return value.raw


def delete_element(descriptor: int, key: bytes) -> None:
    """Remove an element of a map, if it exists."""
    with suppress(FileNotFoundError):
        _element(_MAP_DELETE, descriptor, key)


def next_key(descriptor: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after this one in a hash map, or the first one; None: there is no other."""
    found = ctypes.create_string_buffer(key_bytes)
    held = None if key is None else ctypes.create_string_buffer(key, len(key))
    attr = _Element(descriptor, 0, ctypes.addressof(held) if held else 0, ctypes.addressof(found))
    try:
        _bpf(_MAP_NEXT_KEY, attr)
    except FileNotFoundError:
        return None
    return found.raw


def load_program(
    code: bytes, kind: ProgramType, *, function_id: int = 0, at_exit: bool = False
) -> int:
    """Load a program.

    Args:
        code: its instructions, which contain the file descriptors of its maps.
        kind: the kind of place for which it is.
        function_id: for TRACING: the kernel function's id in BTF.
        at_exit: for TRACING: whether it is for the exit (fexit).

    Returns:
        The file descriptor of the program.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it; the message ends with the verifier's last line.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"GPL")
    attr = _ProgramLoad(
        prog_type=kind,
        insn_cnt=len(code) // _INSTRUCTION_BYTES,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_name),
        prog_name=b"ptescope",
    )
    if kind is ProgramType.TRACING:
        attr.expected_attach_type = _TRACE_FEXIT if at_exit else _TRACE_FENTRY
        attr.attach_btf_id = function_id
    try:
        return _bpf(_PROG_LOAD, attr)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NotPermittedError(f"{error.strerror}") from error
        log = ctypes.create_string_buffer(_LOG_BYTES)
        attr.log_level, attr.log_size, attr.log_buf = 1, len(log), ctypes.addressof(log)
        try:
            return _bpf(_PROG_LOAD, attr)
        except OSError:
            lines = log.value.decode(errors="replace").splitlines()
            said = [line for line in lines if not line.startswith(("processed", "verification"))]
            reason = f": {said[-1]}" if said else ""
            raise UnsupportedHostError(f"{error.strerror}{reason}") from error


def missed_runs(program: int) -> int:
    """How often the kernel has skipped a program, because the CPU was already in one.

    The kernel counts that for functions since v5.12, for kprobes and tracepoints since v6.7
    (dd8657894c11 "bpf: Count missed stats in trace_call_bpf").
    """
    info = _ProgramInfo()
    _bpf(_OBJECT_INFO, _ObjectInfo(program, ctypes.sizeof(info), ctypes.addressof(info)))
    return int(info.recursion_misses)


def open_raw_tracepoint(program: int, name: str | None) -> int:
    """Attach a loaded program; closing the returned file descriptor detaches it.

    Args:
        program: its file descriptor.
        name: the raw tracepoint; None: a TRACING program, which states its place.

    Raises:
        NotPermittedError: for lack of rights.
        UnsupportedHostError: this kernel lacks the tracepoint, or this attach type.
    """
    place = ctypes.create_string_buffer((name or "").encode())
    attr = _LinkOpen(ctypes.addressof(place) if name else 0, program)
    try:
        return _bpf(_RAW_TRACEPOINT_OPEN, attr)
    except PermissionError as error:
        raise NotPermittedError(f"{error.strerror}") from error
    except FileNotFoundError as error:
        raise UnsupportedHostError("this kernel has no such tracepoint") from error
    except OSError as error:
        raise UnsupportedHostError(f"{error.strerror}") from error


def run_once(program: int) -> None:
    """Run a loaded raw-tracepoint program once without attaching it.

    Raises:
        OSError: the kernel refuses (it supports BPF_PROG_TEST_RUN for these since v5.10).
    """
    _bpf(_PROG_TEST_RUN, _TestRun(prog_fd=program))
