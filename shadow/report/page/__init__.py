# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots as one HTML page, which needs no network."""
