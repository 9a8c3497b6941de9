# SPDX-License-Identifier: GPL-2.0-only
"""The page size of this host, for code that needs nothing else of its page tables."""

import mmap

__all__ = ("PAGE", "PAGE_KIB", "PAGE_SHIFT")

PAGE = mmap.PAGESIZE
PAGE_SHIFT = PAGE.bit_length() - 1
PAGE_KIB = PAGE >> 10
"""VmPTE grows by so many KiB for each page-table page."""
