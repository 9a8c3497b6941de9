# SPDX-License-Identifier: GPL-2.0-only
"""One process: its identity, its VMAs, its pagemap."""
