# SPDX-License-Identifier: GPL-2.0-only
"""Tests on other kernels in virtual machines, and the programs that run in the guests."""
