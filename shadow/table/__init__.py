# SPDX-License-Identifier: GPL-2.0-only
"""The shadow page table of one address space.

It has the levels of the hardware: a PGD, PUD pages and PMD pages of 512 entries each. Below
each PMD entry is the record of a PTE page, with a 512-bit map of the entries that are not
none. One pass over the events computes all four policies (`shadow.policy`).
"""
