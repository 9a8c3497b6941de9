# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots as text and other forms; a reporter sees snapshots only."""
