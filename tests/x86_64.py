# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of x86-64 with 4 levels as constants, for tests that need one geometry."""

from shadow.geometry import X86_64

PAGE_SHIFT, PAGE = X86_64.page_shift, X86_64.page
ENTRY_BITS, ENTRIES = X86_64.entry_bits, X86_64.entries
SLOT_SHIFT, SLOT = X86_64.slot_shift, X86_64.slot
PMD_SPAN, PUD_SPAN = X86_64.pmd_span, X86_64.pud_span
WORDS = ENTRIES // 64
