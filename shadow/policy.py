# SPDX-License-Identifier: GPL-2.0-only
"""The three policies: rules for when a kernel frees PTE pages.

- `none`: never before free_pgtables, that is munmap, replacement or exit.
  Linux before 6.14, or without CONFIG_PT_RECLAIM.
- `pt_reclaim`: one MADV_DONTNEED(_LOCKED) that covers a whole slot inside one
  VMA frees the slot's PTE page. Linux kernel commit 6375e95f381e "mm: pgtable:
  reclaim empty PTE page in madvise(MADV_DONTNEED)" (in v6.14).
- `pte_ref`: the RFC "Try to free user PTE page table pages" (2022): every
  zap outside munmap and exit tries to free, whatever its length, and frees the
  PTE page when its pte_ref is 0.

Each policy has one bit in the `live` byte of a PTE page's record, so one pass over
the events computes all three.
"""

from enum import IntEnum

__all__ = ("POLICIES", "Policy")


class Policy(IntEnum):
    """A policy; the value is its bit in `live` and its index in the counters."""

    NONE = 0
    PT_RECLAIM = 1
    PTE_REF = 2

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
