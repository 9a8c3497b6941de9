# SPDX-License-Identifier: GPL-2.0-only
"""Where events come from: sources, their attachments, the ring, and the self-test."""
