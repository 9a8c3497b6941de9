# SPDX-License-Identifier: GPL-2.0-only
"""ptescope as it is installed: from a wheel, and as a Debian package."""
