# SPDX-License-Identifier: GPL-2.0-only
"""The four policies: rules for when a kernel frees PTE pages.

- `none`: never before free_pgtables, that is munmap, replacement or exit.
  Linux before 6.14, or without CONFIG_PT_RECLAIM.
- `pt_reclaim`: one MADV_DONTNEED(_LOCKED) that covers a whole slot inside one
  VMA frees the slot's PTE page. Linux kernel commit 6375e95f381e "mm: pgtable:
  reclaim empty PTE page in madvise(MADV_DONTNEED)" (in v6.14).
- `dontneed_zero`: as `pt_reclaim`, but whatever the size of the call: a DONTNEED after
  which the PTE page maps nothing frees it. No released kernel has it; a change of
  zap_pte_range makes one (tools/vm_guests/dontneed-zero.patch). Other zaps do not look.
- `pte_ref`: the RFC "Try to free user PTE page table pages" (2022): every
  zap outside munmap and exit tries to free, whatever its length, and frees the
  PTE page when its pte_ref is 0.

Each policy frees whatever the one before it frees. Each has one bit in the `live` byte of a
PTE page's record, so one pass over the events computes all four.
"""

from enum import IntEnum

__all__ = ("POLICIES", "Policy")


class Policy(IntEnum):
    """A policy; the value is its bit in `live` and its index in the counters."""

    NONE = 0
    PT_RECLAIM = 1
    DONTNEED_ZERO = 2
    PTE_REF = 3

    @property
    def label(self) -> str:
        """The name that reports use."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "Policy":
        """The policy with this report name.

        Raises:
            KeyError: there is no such policy.
        """
        return cls[label.upper()]


POLICIES = tuple(Policy)
