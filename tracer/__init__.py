# SPDX-License-Identifier: GPL-2.0-only
"""ptescope: reading page tables and events of a live Linux host."""
