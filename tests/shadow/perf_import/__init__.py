# SPDX-License-Identifier: GPL-2.0-only
"""Texts of other tools as records."""
