# SPDX-License-Identifier: GPL-2.0-only
"""Stacks of user code: unwound in a process of its own, from samples of the probes."""
