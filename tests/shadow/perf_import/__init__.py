# SPDX-License-Identifier: GPL-2.0-only
"""Tests of shadow.perf_import."""
