# SPDX-License-Identifier: GPL-2.0-only
"""Whether the kernel preempts BPF programs at functions, and then misses events.

A CPU runs such a program for one task at a time. While a task that was preempted inside waits,
the kernel skips the program for all other tasks of that CPU (kernel/bpf/trampoline.c,
__bpf_prog_enter_recur). At kprobes and tracepoints, programs run with preemption off.

Three page-fault storms on the one CPU of a guest missed 17 % of the events of fentry on 6.12 with
preempt=full, and 9 % on 7.3, which is lazy by default. Kprobes missed none.
"""

import os
import re

from tracer.bpf.kernel_folder import kernel_folder

__all__ = ("preempts_programs",)

_DEBUGFS = "/sys/kernel/debug"
_NEVER = {"none", "voluntary"}


def preempts_programs() -> bool:
    """Whether this kernel preempts kernel code; true if it does not say, as under lockdown."""
    if "PREEMPT" not in os.uname().version:
        return False
    try:
        with kernel_folder("debugfs", _DEBUGFS, "sched") as folder:
            file = os.open("sched/preempt", os.O_RDONLY, dir_fd=folder)
            with open(file) as text:
                mode = re.search(r"\((\w+)\)", text.read())
    except OSError:
        return True
    return mode is None or mode[1] not in _NEVER
