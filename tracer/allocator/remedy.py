# SPDX-License-Identifier: GPL-2.0-only
"""The counters of the remedy for jemalloc (tools/remedy), if a process has loaded it.

The remedy keeps them in a mapping that /proc/PID/maps names. What the process wrote there is
untrusted: values that the remedy cannot have written are ignored.
"""

import struct
from pathlib import Path

from shadow.remedy import REMEDY_STATES, Remedy
from tracer.allocator.process_memory import View
from tracer.procfs import DELETED, parse_maps

__all__ = ("find_remedy",)

_NAME = f"/memfd:ptescope-remedy{DELETED}"
_LAYOUT = struct.Struct("<8sIIII8Q")
"""struct ptescope_remedy_counters of tools/remedy/remedy.h."""
_MAGIC, _VERSION, _LARGEST = b"PTEREMDY", 1, 4096
_MOST = 1 << 62


def find_remedy(pid: int) -> Remedy | None:
    """The counters of a process's remedy; None: it has none.

    Raises:
        OSError: the process has ended, or its maps may not be read.
    """
    maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    start = next((line.start for line in parse_maps(maps) if line.name == _NAME), None)
    raw = None if start is None else View(pid).read(start, _LAYOUT.size)
    return None if raw is None else _decoded(raw)


def _decoded(raw: bytes) -> Remedy | None:
    magic, version, size, _pid, state, *counters = _LAYOUT.unpack(raw)
    known = magic == _MAGIC and version >= _VERSION and _LAYOUT.size <= size <= _LARGEST
    if not known or not 1 <= state <= len(REMEDY_STATES) or max(counters) >= _MOST:
        return None
    return Remedy(REMEDY_STATES[state - 1], *counters)
