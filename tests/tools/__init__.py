# SPDX-License-Identifier: GPL-2.0-only
"""Scripts of this repository, as far as they need no host."""
