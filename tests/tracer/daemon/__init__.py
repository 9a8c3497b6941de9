# SPDX-License-Identifier: GPL-2.0-only
"""Tests of what watches a whole host, without BPF."""
