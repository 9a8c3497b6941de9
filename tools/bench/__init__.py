# SPDX-License-Identifier: GPL-2.0-only
"""Benchmarks: run as modules, print their figures with how they were taken."""
