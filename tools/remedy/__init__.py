# SPDX-License-Identifier: GPL-2.0-only
"""The remedy: jemalloc frees its own empty PTE pages. The C is the remedy, the Python tests it."""
