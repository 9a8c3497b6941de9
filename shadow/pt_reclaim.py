# SPDX-License-Identifier: GPL-2.0-only
"""Since when kernels free an empty PTE page, by their releases alone.

A release is a hint: PT_RECLAIM was an option on x86-64, and distributions move changes to older
kernels. `tracer.kernel` finds the policy of a running kernel by trying.
"""

import re

from shadow.geometry import X86_64

__all__ = ("reclaims_since", "release_reclaims")

_X86_64 = 6, 14
"""Linux kernel commit 6375e95f381e "mm: pgtable: reclaim empty PTE page in
madvise(MADV_DONTNEED)" depends on x86-64."""
_OTHERS = 7, 0
"""Linux kernel commit "mm: make PT_RECLAIM depends on MMU_GATHER_RCU_TABLE_FREE"."""


def reclaims_since(arch: str) -> tuple[int, int]:
    """The first release of Linux that can free an empty PTE page on an architecture."""
    return _X86_64 if arch == X86_64.arch else _OTHERS


def release_reclaims(release: str, arch: str) -> bool:
    """Whether a kernel of this release can; an unknown release cannot."""
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    return match is not None and (int(match[1]), int(match[2])) >= reclaims_since(arch)
