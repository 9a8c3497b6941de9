# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2) and perf_event_open(2), where bcc does not suffice: trampolines, tracepoints, test runs.

bcc derives the type of fentry and fexit programs from their names, by rules that differ between
versions, and it attaches a BPF function to one kernel function only. It looks tracepoints up in
a mounted tracefs, which a freshly booted machine may lack.
Source of the layouts: union bpf_attr in include/uapi/linux/bpf.h, struct perf_event_attr in
include/uapi/linux/perf_event.h.
"""

import ctypes
import errno
import fcntl
import os

from shadow.errors import NotPermittedError, UnsupportedHostError
from shadow.uapi import SYSCALL_NUMBERS

__all__ = ("attach_tracepoint", "attach_tracing", "load_tracing", "run_once")

_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_RAW_TRACEPOINT_OPEN = 17
_TYPE_TRACING = 26
_TRACE_FENTRY = 24
_TRACE_FEXIT = 25
_INSTRUCTION_BYTES = 8
_LOG_BYTES = 1 << 20
_ENOTSUPP = 524
_PERF_TYPE_TRACEPOINT = 2
_PERF_FLAG_FD_CLOEXEC = 8
_PERF_IOC_ENABLE, _PERF_IOC_SET_BPF = 0x2400, 0x40042408
_EVERY_PROCESS, _CPU, _NO_GROUP = -1, 0, -1


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


class _PerfEvent(ctypes.Structure):
    """The first members of struct perf_event_attr, padded to the size of version 5."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 12),
    )


def _bpf(command: int, attr: ctypes.Structure) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = SYSCALL_NUMBERS["bpf"]
    result: int = libc.syscall(number, command, ctypes.byref(attr), ctypes.sizeof(attr))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, "not supported" if error == _ENOTSUPP else os.strerror(error))
    return result


def load_tracing(code: bytes, function_id: int, *, at_exit: bool) -> int:
    """Load a program for the entry (fentry) or the exit (fexit) of a kernel function.

    Args:
        code: its instructions, which contain the file descriptors of its maps.
        function_id: the kernel function's id in BTF.
        at_exit: whether it is for the exit (fexit).

    Returns:
        The file descriptor of the program.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it; the message ends with the verifier's last line.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"GPL")

    attr = _ProgramLoad(
        prog_type=_TYPE_TRACING,
        insn_cnt=len(code) // _INSTRUCTION_BYTES,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_name),
        prog_name=b"ptescope",
        expected_attach_type=_TRACE_FEXIT if at_exit else _TRACE_FENTRY,
        attach_btf_id=function_id,
    )
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


def attach_tracing(program: int) -> int:
    """Attach a program of `load_tracing` and close it; returns the file descriptor of the link.

    Raises:
        UnsupportedHostError: this kernel does not support this attach type.
    """
    try:
        return _bpf(_RAW_TRACEPOINT_OPEN, _LinkOpen(prog_fd=program))
    except OSError as error:
        raise UnsupportedHostError(f"{error.strerror}") from error
    finally:
        os.close(program)


def attach_tracepoint(program: int, tracepoint: int) -> int:
    """Attach a loaded tracepoint program; closing the returned file descriptor detaches it.

    Args:
        program: its file descriptor, which this function leaves open.
        tracepoint: see `tracer.bpf.tracefs.tracepoint_id`.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attr = _PerfEvent(type=_PERF_TYPE_TRACEPOINT, size=ctypes.sizeof(_PerfEvent), config=tracepoint)
    # The programs of a tracepoint run on every CPU, but the event has to name one.
    event: int = libc.syscall(
        ctypes.c_long(SYSCALL_NUMBERS["perf_event_open"]),
        ctypes.byref(attr),
        ctypes.c_long(_EVERY_PROCESS),
        ctypes.c_long(_CPU),
        ctypes.c_long(_NO_GROUP),
        ctypes.c_long(_PERF_FLAG_FD_CLOEXEC),
    )
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
    """Run a loaded raw-tracepoint program once without attaching it.

    Raises:
        OSError: the kernel refuses (it supports BPF_PROG_TEST_RUN for these since v5.10).
    """
    _bpf(_PROG_TEST_RUN, _TestRun(prog_fd=program))
