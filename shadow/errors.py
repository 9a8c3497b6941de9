# SPDX-License-Identifier: GPL-2.0-only
"""The exceptions of ptescope, and the exit status of each.

A message states what happened, why, and what the user can do. `ptescope` prints
it on one line of stderr and never shows a traceback for it. The statuses are
those of the output contract (schema 1).
"""

__all__ = (
    "DamagedTraceError",
    "NoSuchTargetError",
    "NotPermittedError",
    "OutputError",
    "PtescopeError",
    "TraceWriteError",
    "UnsupportedHostError",
    "UsageError",
)


class PtescopeError(Exception):
    """An error that the user can act on; `status` is the exit status."""

    status = 1


class OutputError(PtescopeError):
    """The output cannot be written; the message names the place and the reason."""

    status = 1


class UsageError(PtescopeError):
    """The request is invalid or cannot be carried out as given."""

    status = 2


class NoSuchTargetError(PtescopeError):
    """The process does not exist, or ended before ptescope learned anything about it."""

    status = 3


class NotPermittedError(PtescopeError):
    """A permission is missing; the message names it."""

    status = 4


class UnsupportedHostError(PtescopeError):
    """This host lacks a feature that the request needs; the message names it."""

    status = 4


class DamagedTraceError(PtescopeError):
    """A trace ends early or was altered; the message gives the position."""

    status = 5


class TraceWriteError(PtescopeError):
    """A trace cannot be written completely; the message states what it contains."""

    status = 1
