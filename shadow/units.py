# SPDX-License-Identifier: GPL-2.0-only
"""Units of figures."""

from shadow.geometry import PAGE

__all__ = ("KIB_PER_PAGE", "NS")

KIB_PER_PAGE = PAGE >> 10
"""The size of a page, and of a page table of any level, in KiB."""
NS = 1_000_000_000
"""Nanoseconds in a second."""
