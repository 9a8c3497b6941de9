# SPDX-License-Identifier: GPL-2.0-only
"""Parses tracepoints of page faults and calls, as perf script, trace-cmd and ftrace print them."""

import re
from collections.abc import Iterator

from shadow.perf_import.calls import ARGUMENTS, sized
from shadow.perf_import.numbers import number
from shadow.perf_import.said import (
    Called,
    Entered,
    Forked,
    OddLineError,
    Replaced,
    Returned,
    Touched,
    What,
)

__all__ = ("of_tracepoint",)

_FAULT = re.compile(r"(?a)address=(?:0x)?([0-9a-f]+) .*error_code=(0x[0-9a-f]+|\d+)")
_ARGUMENT = re.compile(r"(?a)\w+: (0x[0-9a-f]+|-?\d+)(?=,|\s|$)")
_NEW_TASK = re.compile(r"(?a)pid=(\d{1,8}) comm=.* clone_flags=(?:0x)?([0-9a-f]{1,16})")
_KERNEL_FAULT = 1 << 31
_CLONE_THREAD = 0x10000
_ERROR_BITS = (1 << 30) - 1


def _result(text: str) -> int:
    result = number(text.strip())
    return result - (1 << 64) * (result >= 1 << 63)


def of_tracepoint(name: str, fields: str) -> Iterator[What]:
    """Parse the fields of a tracepoint.

    Args:
        name: name of the tracepoint, without its group.
        fields: the printed fields.

    Raises:
        OddLineError: the fields cannot be parsed.
    """
    if name in ("page_fault_user", "page_fault_kernel"):
        fault = _FAULT.search(fields)
        if fault is None:
            raise OddLineError("a page fault without its address")
        kernel = _KERNEL_FAULT if name.endswith("kernel") else 0
        address = number(f"0x{fault[1]}")
        if address < 1 << 63:
            yield Touched(address, number(fault[2]) & _ERROR_BITS | kernel)
    elif name == "sched_process_exec":
        yield Replaced()
    elif name == "task_newtask":
        task = _NEW_TASK.search(fields)
        if task is None:
            raise OddLineError("a new task without its flags")
        yield Forked(int(task[1]), int(task[2], 16) & _CLONE_THREAD != 0)
    elif name.startswith("sys_enter_"):
        call = name.removeprefix("sys_enter_")
        arguments = [number(text) for text in _ARGUMENT.findall(fields)]
        if call in ARGUMENTS:
            yield Entered(call, sized(call, arguments))
    elif name.startswith("sys_exit_"):
        call = name.removeprefix("sys_exit_")
        if call in ARGUMENTS:
            yield Returned(call, _result(fields))
        elif call == "process_madvise":
            yield Called(call, [], _result(fields))
