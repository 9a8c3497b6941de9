# SPDX-License-Identifier: GPL-2.0-only
"""The daemon: follows all processes of a host with large page tables, within limits."""

from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits

__all__ = ("Selection", "Host", "Limits")
