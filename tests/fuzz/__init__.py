# SPDX-License-Identifier: GPL-2.0-only
"""Fuzzers: run by hand, on demand."""
