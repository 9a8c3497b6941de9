# SPDX-License-Identifier: GPL-2.0-only
"""A view of the host as bytes, which the daemon hands to `ptescope top`.

Both come from one installation, so the format has no version; other bytes are refused.
"""

from dataclasses import asdict, replace
from functools import cache

import msgspec

from shadow.errors import PtescopeError
from shadow.escape import valid
from shadow.host_view import HostView

__all__ = ("view_from_bytes", "view_to_bytes")


def view_to_bytes(view: HostView) -> bytes:
    """The view, without the columns that only pages show."""
    return msgspec.msgpack.encode(valid(asdict(replace(view, cells=None))))


@cache
def _decoder() -> "msgspec.msgpack.Decoder[HostView]":
    return msgspec.msgpack.Decoder(HostView)


def view_from_bytes(data: bytes) -> HostView:
    """The view that these bytes hold.

    Raises:
        PtescopeError: they hold none.
    """
    try:
        return _decoder().decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PtescopeError(
            f"The daemon's answer has another form ({error}); restart the daemon after an upgrade."
        ) from error
