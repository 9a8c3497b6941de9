# SPDX-License-Identifier: GPL-2.0-only
"""Accuracy on real programs: the shadow compared with the page tables, while they run."""
