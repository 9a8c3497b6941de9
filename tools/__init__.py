# SPDX-License-Identifier: GPL-2.0-only
"""Scripts of the repository: set-up, demo, benchmarks, workloads. Not installed."""
