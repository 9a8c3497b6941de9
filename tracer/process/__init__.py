# SPDX-License-Identifier: GPL-2.0-only
"""One process to observe: its identity, its VMAs, its pagemap."""
