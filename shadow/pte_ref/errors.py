# SPDX-License-Identifier: GPL-2.0-only
"""What must never happen in the modelled kernel."""

__all__ = ("KernelBugError",)


class KernelBugError(AssertionError):
    """A BUG_ON of the RFC, or the use of memory that is not what it was taken for."""
