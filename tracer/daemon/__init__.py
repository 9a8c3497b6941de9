# SPDX-License-Identifier: GPL-2.0-only
"""The whole host: every process whose page tables matter, within bounds, for months."""

from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.daemon.processes import Choice

__all__ = ("Choice", "Host", "Limits")
