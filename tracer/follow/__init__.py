# SPDX-License-Identifier: GPL-2.0-only
"""Follow one process: a session feeds its shadow, an auditor compares and repairs it."""
