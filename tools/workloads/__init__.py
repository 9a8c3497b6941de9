# SPDX-License-Identifier: GPL-2.0-only
"""Real programs under a known load, for the demo, the tests and the benchmarks."""
