# SPDX-License-Identifier: GPL-2.0-only
"""The codes of origins in the records of PTE pages; see `shadow.table.origin`."""

__all__ = ("GUARD_INSTALL", "KIND_BITS", "LAZYFREE", "LOCKED", "PAGEOUT", "READING")

READING = 0
"""The code of a change without an event."""
KIND_BITS = 5
"""A code has the event's `Kind` in the low bits, and its variant above them.

For TRUNCATE the variant is the event's `aux`: MADV_REMOVE, `FILE_TRUNCATED` or `FILE_HOLE`.
"""
LOCKED = 1
"""The variant of DONTNEED that is MADV_DONTNEED_LOCKED."""
GUARD_INSTALL, PAGEOUT = 1, 2
"""Variants of ADVISE."""
LAZYFREE = 1
"""The variant of RECLAIM that took an entry under MADV_FREE."""
