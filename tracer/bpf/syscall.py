# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2) and perf_event_open(2), where bcc does not reach: trampolines, tracepoints, single runs.

bcc takes fentry and fexit programs by the names of their functions, and which names has
changed between its versions; and one function can stand for one kernel function only. It
looks tracepoints up in a mounted tracefs, which a fresh machine does not have.
Source of the layouts: union bpf_attr in include/uapi/linux/bpf.h, struct perf_event_attr in
include/uapi/linux/perf_event.h.
"""

import ctypes
import errno
import fcntl
import os
import struct

from shadow.errors import NotPermittedError, UnsupportedHostError

__all__ = ("attach_tracepoint", "attach_tracing", "load_tracing", "run_once")

_SYS_BPF = 321  # x86-64
_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_RAW_TRACEPOINT_OPEN = 17
_TYPE_TRACING = 26
_TRACE_FENTRY = 24
_TRACE_FEXIT = 25
_INSTRUCTION_BYTES = 8
_LOG_BYTES = 1 << 20
_ENOTSUPP = 524
_SYS_PERF_EVENT_OPEN = 298  # x86-64
_PERF_TYPE_TRACEPOINT = 2
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_IOC_ENABLE, _PERF_IOC_SET_BPF = 0x2400, 0x40042408
_EVERY_PROCESS, _CPU, _NO_GROUP = -1, 0, -1

_LOAD_ATTR = struct.Struct("<IIQQIIQII16sIIIIQIIQII4x")
_OPEN_ATTR = struct.Struct("<QI4x")
_PERF_ATTR = struct.Struct("<IIQ96x")  # type, size, config: PERF_ATTR_SIZE_VER5
_TEST_RUN_ATTR = struct.Struct("<IIIIQQIIIIQQIII4x")


def _bpf(command: int, packed: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    attr = ctypes.create_string_buffer(packed, len(packed))
    result: int = libc.syscall(_SYS_BPF, command, attr, len(packed))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, "not supported" if error == _ENOTSUPP else os.strerror(error))
    return result


def load_tracing(code: bytes, function_id: int, *, at_exit: bool) -> int:
    """Load a program for the entry (fentry) or the exit (fexit) of a kernel function.

    Args:
        code: its instructions, with the file descriptors of their maps in them.
        function_id: the kernel function's id in BTF.
        at_exit: fexit.

    Returns:
        Its file descriptor.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it; the message has the verifier's last line.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"GPL")

    def load(log: ctypes.Array[ctypes.c_char] | None) -> int:
        attr = _LOAD_ATTR.pack(
            *(_TYPE_TRACING, len(code) // _INSTRUCTION_BYTES),
            *(ctypes.addressof(instructions), ctypes.addressof(license_name)),
            *((1, len(log), ctypes.addressof(log)) if log else (0, 0, 0)),
            *(0, 0, b"ptescope", 0, _TRACE_FEXIT if at_exit else _TRACE_FENTRY),
            *(0, 0, 0, 0, 0, 0, 0, function_id),
        )
        return _bpf(_PROG_LOAD, attr)

    try:
        return load(None)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NotPermittedError(f"{error.strerror}") from error
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return load(log)
        except OSError:
            lines = log.value.decode(errors="replace").splitlines()
            said = [line for line in lines if not line.startswith(("processed", "verification"))]
            reason = f": {said[-1]}" if said else ""
            raise UnsupportedHostError(f"{error.strerror}{reason}") from error


def attach_tracing(program: int) -> int:
    """Attach what `load_tracing` has loaded, and close it; returns the link's file descriptor.

    Raises:
        UnsupportedHostError: this kernel does not let itself be traced that way.
    """
    try:
        return _bpf(_RAW_TRACEPOINT_OPEN, _OPEN_ATTR.pack(0, program))
    except OSError as error:
        raise UnsupportedHostError(f"{error.strerror}") from error
    finally:
        os.close(program)


def attach_tracepoint(program: int, tracepoint: int) -> int:
    """Attach a loaded tracepoint program; closing the returned file descriptor detaches it.

    Args:
        program: its file descriptor, which stays open.
        tracepoint: see `tracer.bpf.tracefs.tracepoint_id`.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attr = ctypes.create_string_buffer(
        _PERF_ATTR.pack(_PERF_TYPE_TRACEPOINT, _PERF_ATTR.size, tracepoint), _PERF_ATTR.size
    )
    # The programs of a tracepoint run on every CPU; the event has to name one all the same.
    where = map(ctypes.c_long, (_EVERY_PROCESS, _CPU, _NO_GROUP, _PERF_FLAG_FD_CLOEXEC))
    event: int = libc.syscall(ctypes.c_long(_SYS_PERF_EVENT_OPEN), attr, *where)
    try:
        if event < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            fcntl.ioctl(event, _PERF_IOC_SET_BPF, program)
            fcntl.ioctl(event, _PERF_IOC_ENABLE, 0)
        except OSError:
            os.close(event)
            raise
    except OSError as error:
        refused = error.errno in (errno.EPERM, errno.EACCES)
        family = NotPermittedError if refused else UnsupportedHostError
        raise family(f"{error.strerror}") from error
    return event


def run_once(program: int) -> None:
    """Run a loaded raw-tracepoint function here and now, attached to nothing.

    Raises:
        OSError: the kernel refuses (BPF_PROG_TEST_RUN for these came with v5.10).
    """
    _bpf(_PROG_TEST_RUN, _TEST_RUN_ATTR.pack(program, *[0] * 14))
