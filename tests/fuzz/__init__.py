# SPDX-License-Identifier: GPL-2.0-only
"""Fuzzers, to be run by hand."""
