# SPDX-License-Identifier: GPL-2.0-only
"""Benchmarks: each runs as a module and prints its figures and how it measured them."""
