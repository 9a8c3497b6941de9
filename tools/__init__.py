# SPDX-License-Identifier: GPL-2.0-only
"""Scripts of this repository and their packages, which are not installed.

The package or module of the script `tools/NAME` begins with that name.
"""
