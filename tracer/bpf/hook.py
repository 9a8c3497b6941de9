# SPDX-License-Identifier: GPL-2.0-only
"""A place in the kernel to which a BPF function can be attached."""

from dataclasses import dataclass
from enum import Enum

__all__ = ("AttachType", "Hook")


class AttachType(Enum):
    """Kinds of places to which a BPF program can be attached."""

    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"
    TRACEPOINT = "tracepoint"
    RAW_TRACEPOINT = "raw tracepoint"
    SOFTWARE_EVENT = "software event"


@dataclass(frozen=True)
class Hook:
    """A place in the kernel, and the BPF function that runs there.

    Attributes:
        attach_type: the kind of place.
        where: a kernel function, `category:name` of a tracepoint, a raw tracepoint, or a software
            event as perf names it.
        function: name of the BPF function.
    """

    attach_type: AttachType
    where: str
    function: str
