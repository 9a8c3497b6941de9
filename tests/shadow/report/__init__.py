# SPDX-License-Identifier: GPL-2.0-only
"""Reports, without a browser; tests/page has a browser."""
