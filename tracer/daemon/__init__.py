# SPDX-License-Identifier: GPL-2.0-only
"""The whole host: every process whose page tables matter, within bounds, for months."""

from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits

__all__ = ("Selection", "Host", "Limits")
