# SPDX-License-Identifier: GPL-2.0-only
"""Probes: sources of events, their attachments, the ring, and the self-test."""
