# SPDX-License-Identifier: GPL-2.0-only
"""The error for states that must never occur in the modelled kernel."""

__all__ = ("KernelBugError",)


class KernelBugError(AssertionError):
    """A BUG_ON of the RFC, or the use of memory that was freed or replaced."""
