# SPDX-License-Identifier: GPL-2.0-only
"""`ptescope top`: a host on a terminal. The screens see views of it and nothing else."""

from shadow.report.top.app import TopApp

__all__ = ("TopApp",)
