# SPDX-License-Identifier: GPL-2.0-only
"""Calls that findings print, to be made from inside a process."""

__all__ = ("dontneed_calls",)

_SHOWN = 4


def dontneed_calls(ranges: list[tuple[int, int]]) -> list[str]:
    """The first few calls as C, and how many more there are.

    Args:
        ranges: first address and length of each, bytes.
    """
    calls = [f"madvise((void *){at:#x}, {size}, MADV_DONTNEED);" for at, size in ranges[:_SHOWN]]
    if len(ranges) > _SHOWN:
        calls.append(f"/* and {len(ranges) - _SHOWN:,} more: ptescope census --slots PID */")
    return calls
