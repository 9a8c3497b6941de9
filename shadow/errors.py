# SPDX-License-Identifier: GPL-2.0-only
"""The one exception family of ptescope, and the exit status each member ends with.

A message says what happened, why, and what the user can do; `ptescope` prints
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
    """Something that the user can act on; `status` is the exit status."""

    status = 1


class OutputError(PtescopeError):
    """What was asked for cannot be written; the message says where to and why."""

    status = 1


class UsageError(PtescopeError):
    """The request itself cannot be carried out as it was given."""

    status = 2


class NoSuchTargetError(PtescopeError):
    """No such process, or it ended before anything was known of it."""

    status = 3


class NotPermittedError(PtescopeError):
    """A right is missing; the message names it."""

    status = 4


class UnsupportedHostError(PtescopeError):
    """This host lacks something that the work needs; the message names it."""

    status = 4


class DamagedTraceError(PtescopeError):
    """A trace ends early or was changed; the message says where."""

    status = 5


class TraceWriteError(PtescopeError):
    """A trace cannot be written, or not to its end; the message says what is in it."""

    status = 1
