# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc (tools/remedy) in a process: what it did, as plain data."""

from dataclasses import dataclass

__all__ = ("REMEDY_STATES", "Remedy")

REMEDY_STATES = (
    *("dontneed", "remap", "dry_run"),
    *("kernel_refuses", "no_retain", "hpa", "guards", "bad_option", "other_hooks", "kernel_flawed"),
)
"""What `Remedy.state` can be: in the first three it works, in the others it does nothing."""


@dataclass(frozen=True)
class Remedy:
    """The counters of the remedy for jemalloc in a process, since it started or was forked.

    `state` is "dontneed", "remap" or "dry_run", or the reason why the remedy does nothing.
    `arenas` counts those with its hooks. It saw `purges` of free extents and `merges` of
    purged ones, of which `completed` made a slot whole. It `swept` most of these slots; the
    others were `too_small`, `too_fast` for its rate, or `failed`.
    """

    state: str
    arenas: int
    purges: int
    merges: int
    completed: int
    swept: int
    too_small: int
    too_fast: int
    failed: int
