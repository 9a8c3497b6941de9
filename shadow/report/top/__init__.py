# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope top`: a host on a terminal. The screens use nothing but views of the host."""

from shadow.report.top.app import TopApp

__all__ = ("TopApp",)
