# SPDX-License-Identifier: GPL-2.0-only
"""Units of figures."""

__all__ = ("NS",)

NS = 1_000_000_000
"""Nanoseconds in a second."""
