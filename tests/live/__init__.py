# SPDX-License-Identifier: GPL-2.0-only
"""Tests on the running kernel; they need root."""
