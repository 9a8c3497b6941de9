# SPDX-License-Identifier: GPL-2.0-only
"""What differs between architectures, for the tracer: a description of each, as plain data.

Nothing else asks on which architecture it runs.
"""

import os
from functools import cache

from tracer.arch.arm64 import ARM64
from tracer.arch.description import Architecture
from tracer.arch.x86_64 import X86_64

__all__ = ("ARCHITECTURES", "Architecture", "running")

ARCHITECTURES = {each.machine: each for each in (X86_64, ARM64)}
"""By the names that uname has for them."""


@cache
def running() -> Architecture:
    """The architecture of this host.

    On an unknown one, it is x86-64: imports then work, and `tracer.kernel` refuses the host.
    """
    return ARCHITECTURES.get(os.uname().machine, X86_64)
