# SPDX-License-Identifier: GPL-2.0-only
"""The live side of ptescope: it reads page tables and events of a Linux host."""
