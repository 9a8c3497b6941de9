# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels that differ in one rule, and the same programs on both, against the shadow."""
