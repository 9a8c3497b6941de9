# SPDX-License-Identifier: GPL-2.0-only
"""perf_event_open(2): attach programs to tracepoints and kprobes.

Tracepoints need no mounted tracefs, which a freshly booted machine may lack. Kprobes use the
kernel's PMU for them (commit e12f03d7031a, v4.17).
Source of the layout: struct perf_event_attr in include/uapi/linux/perf_event.h.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from shadow.errors import NotPermittedError, UnsupportedHostError
from tracer.arch import running

__all__ = ("attach_kprobe", "attach_page_faults", "attach_tracepoint")

_TYPE_SOFTWARE, _TYPE_TRACEPOINT = 1, 2
_PAGE_FAULTS = 2  # PERF_COUNT_SW_PAGE_FAULTS
_KPROBES = Path("/sys/bus/event_source/devices/kprobe")
_ONLINE = Path("/sys/devices/system/cpu/online")
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408
_EVERY_PROCESS, _NO_GROUP = -1, -1
_CPU = 0
"""The programs of a tracepoint or kprobe run on every CPU, but its event has to name one."""


class _PerfEvent(ctypes.Structure):
    """The members of version 5, those that are not used here as padding."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("padding", ctypes.c_uint64 * 4),
        ("kprobe_func", ctypes.c_uint64),
        ("probe_offset", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 5),
    )


def _open(program: int, attr: _PerfEvent, cpu: int) -> int:
    """Open an event for a program; closing the returned file descriptor detaches it."""
    attr.size = ctypes.sizeof(_PerfEvent)
    libc = ctypes.CDLL(None, use_errno=True)
    event: int = libc.syscall(
        ctypes.c_long(running().calls["perf_event_open"]),
        ctypes.byref(attr),
        ctypes.c_long(_EVERY_PROCESS),
        ctypes.c_long(cpu),
        ctypes.c_long(_NO_GROUP),
        ctypes.c_long(_FLAG_FD_CLOEXEC),
    )
    try:
        if event < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            fcntl.ioctl(event, _IOC_SET_BPF, program)
            fcntl.ioctl(event, _IOC_ENABLE, 0)
        except OSError:
            os.close(event)
            raise
    except OSError as error:
        refused = error.errno in (errno.EPERM, errno.EACCES)
        family = NotPermittedError if refused else UnsupportedHostError
        raise family(f"{error.strerror}") from error
    return event


def _online_cpus() -> list[int]:
    """The CPUs in a list such as 0-3,8."""
    cpus: list[int] = []
    for part in _ONLINE.read_text().split(","):
        first, _, last = part.strip().partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def attach_tracepoint(program: int, tracepoint: int) -> int:
    """Attach a loaded tracepoint program; closing the returned file descriptor detaches it.

    Args:
        program: its file descriptor.
        tracepoint: see `tracer.bpf.tracefs.tracepoint_id`.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it.
    """
    return _open(program, _PerfEvent(type=_TYPE_TRACEPOINT, config=tracepoint), _CPU)


def attach_kprobe(load: Callable[[], int], function: str, *, at_return: bool) -> int:
    """Load and attach a kprobe program; closing the returned file descriptor detaches it.

    Args:
        load: loads the program; returns its file descriptor.
        function: the kernel function.
        at_return: whether it is a kretprobe.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: this kernel has no kprobes, or refuses this one.
    """
    try:
        kind = int((_KPROBES / "type").read_text())
        bit = int((_KPROBES / "format" / "retprobe").read_text().removeprefix("config:"))
    except (OSError, ValueError) as error:
        raise UnsupportedHostError("this kernel has no kprobes") from error
    name = ctypes.create_string_buffer(function.encode())
    config = int(at_return) << bit
    attr = _PerfEvent(type=kind, config=config, kprobe_func=ctypes.addressof(name))
    return _open(load(), attr, _CPU)


def attach_page_faults(program: int) -> list[int]:
    """Attach a loaded program to the page faults of every CPU, as perf counts them.

    Args:
        program: its file descriptor.

    Returns:
        File descriptors whose close detaches it, one for each CPU that is online now.

    Raises:
        NotPermittedError: for lack of rights, or by the kernel's policy.
        UnsupportedHostError: the kernel refuses it.
    """
    events: list[int] = []
    attr = _PerfEvent(type=_TYPE_SOFTWARE, config=_PAGE_FAULTS, sample_period=1)
    try:
        events.extend(_open(program, attr, cpu) for cpu in _online_cpus())
    except BaseException:
        for event in events:
            os.close(event)
        raise
    return events
