# SPDX-License-Identifier: GPL-2.0-only
"""Units that figures are given in."""

from shadow.geometry import PAGE

__all__ = ("KIB_PER_PAGE", "NS")

KIB_PER_PAGE = PAGE >> 10
"""KiB in a page, and in a page table of any level."""
NS = 1_000_000_000
"""Nanoseconds in a second."""
