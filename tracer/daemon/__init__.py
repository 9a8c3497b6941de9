# SPDX-License-Identifier: GPL-2.0-only
"""The daemon: follows all processes of a host with large page tables, within limits."""
