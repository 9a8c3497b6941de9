# SPDX-License-Identifier: GPL-2.0-only
"""A place in the kernel that a BPF function can be attached to."""

from dataclasses import dataclass
from enum import Enum

__all__ = ("AttachType", "Hook")


class AttachType(Enum):
    """What a BPF program can be attached to."""

    FENTRY = "fentry"
    FEXIT = "fexit"
    KPROBE = "kprobe"
    KRETPROBE = "kretprobe"
    TRACEPOINT = "tracepoint"
    RAW_TRACEPOINT = "raw tracepoint"


@dataclass(frozen=True)
class Hook:
    """A place in the kernel and the function of ours that is called there.

    Attributes:
        how: what kind of place it is.
        where: a function's name, `category:name` of a tracepoint, or a raw tracepoint's name.
        function: of the BPF C.
    """

    attach_type: AttachType
    where: str
    function: str
