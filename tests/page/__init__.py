# SPDX-License-Identifier: GPL-2.0-only
"""The HTML page in a real browser: Debian's chromium, driven by playwright."""
