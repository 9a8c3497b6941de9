# SPDX-License-Identifier: GPL-2.0-only
"""Complete events from /proc/PID/maps that the probes cannot complete.

Pages that leave a file (FILE_ZAP) may affect every process; the mappings of a process decide
which entries it loses. After shmat and io_setup, the probes know only the address.
"""

from contextlib import suppress

import numpy as np

from shadow.events import (
    EVENT,
    MAP_FLAGS_SHIFT,
    NOT_CACHED,
    SPECIAL,
    Doubt,
    EventBatch,
    Kind,
    kinds_of,
)
from shadow.uapi import MAP_PRIVATE, MAP_SHARED
from tracer.process.target import Target
from tracer.procfs import MapsLine

__all__ = ("in_full",)

_HOW = (1 << 12) - 1
"""The bits of the length of a FILE_ZAP that hold how; no page is smaller."""
_INODE = (1 << 32) - 1
_IDENTITY = (1 << 30) - 1
_Row = tuple[int, ...]
_ENDED = (OSError, ValueError)


def _number(device: tuple[int, int]) -> int:
    """The kernel's number of a device: the major number above 20 bits (MKDEV)."""
    return device[0] << 20 | device[1]


def _zapped(event: _Row, mappings: list[MapsLine]) -> list[_Row]:
    """Events for the ranges of mappings that lost pages of the file, or may have lost some."""
    time, first, length, tgid, inode, _, cpu, device = event
    how, end = length & _HOW, first + (length & ~_HOW)
    any_file = inode == device == 0
    rows: list[_Row] = []
    for each in mappings:
        if not any_file and (_number(each.device), each.inode & _INODE) != (device, inode):
            continue
        low = max(first, each.offset)
        high = min(end, each.offset + each.end - each.start)
        if low < high:
            kind, aux = (Kind.TRUNCATE, how) if how else (Kind.DOUBT, Doubt.FILE)
            start = each.start + low - each.offset
            rows.append((time, start, high - low, tgid, 0, kind, cpu, aux))
    return rows


def _attached(event: _Row, mappings: list[MapsLine]) -> list[_Row]:
    """Events for the mapping at an address, as if mmap had made it."""
    time, address, _, tgid, tid, _, cpu, _ = event
    for each in mappings:
        if each.start <= address < each.end:
            flags = MAP_SHARED if each.shared else MAP_PRIVATE
            aux = each.prot | flags << MAP_FLAGS_SHIFT | NOT_CACHED | SPECIAL
            identity = hash((each.device, each.inode, each.start)) & _IDENTITY
            length = each.end - each.start
            return [
                (time, each.offset, 0, tgid, tid, Kind.FILE, cpu, identity),
                (time, each.start, length, tgid, tid, Kind.MAP, cpu, aux),
            ]
    return [event]


def in_full(events: EventBatch, target: Target) -> EventBatch:
    """Complete the events of a process as far as its current mappings allow."""
    if not kinds_of(events) & {Kind.FILE_ZAP, Kind.DOUBT}:
        return events
    zaps = events["kind"] == Kind.FILE_ZAP
    attached = (events["kind"] == Kind.DOUBT) & (events["aux"] == Doubt.ATTACHED)
    mappings: list[MapsLine] = []
    with suppress(*_ENDED):
        mappings = target.file_mappings()
    parts, begin = [], 0
    for at in np.flatnonzero(zaps | attached).tolist():
        event = events[at].tolist()
        rows = _zapped(event, mappings) if zaps[at] else _attached(event, mappings)
        parts += [events[begin:at], np.array(rows, EVENT)]
        begin = at + 1
    full: EventBatch = np.concatenate([*parts, events[begin:]])
    full["tgid"] = target.pid
    return full
