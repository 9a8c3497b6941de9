# SPDX-License-Identifier: GPL-2.0-only
"""Finds and opens traces: files, folders and patterns, local or at any fsspec URL."""

import stat
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from fsspec.core import url_to_fs

from shadow.errors import UsageError
from shadow.memory_limit import MAX_MEMORY
from shadow.trace import SUFFIX, TraceReader

_PARTS = 4
"""A record briefly exists in several forms: compressed, as columns, as a map, as a shadow."""

__all__ = ("find_traces", "open_trace")


def _find(place: str) -> list[str]:
    system, path = url_to_fs(place)
    pattern = f"{path}/*{SUFFIX}" if system.isdir(path) else path
    if not has_magic(pattern) or system.exists(pattern):
        return [place]
    remote = "://" in place
    return sorted(system.unstrip_protocol(p) if remote else p for p in system.glob(pattern))


def find_traces(places: Sequence[str]) -> list[str]:
    """The traces at these places, each once, in order.

    Args:
        places: files, folders (their *.arrows), patterns, or fsspec URLs of these.

    Raises:
        UsageError: one of the places has no trace, or cannot be read.
    """
    found: dict[str, None] = {}
    for place in places:
        try:
            here = _find(place)
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(f"{place} cannot be read: {error}.") from error
        if not here:
            raise UsageError(f"There is no trace at {place}; check the path or the pattern.")
        found |= dict.fromkeys(here)
    return list(found)


_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def _refuse_special(url: str, mode: int) -> None:
    """Raise UsageError unless this is a regular file; opening a FIFO would wait for a writer."""
    if kind := _SPECIAL.get(stat.S_IFMT(mode)):
        raise UsageError(f"{url} is {kind}; a trace is a regular file.")


def open_trace(url: str, max_memory: int = MAX_MEMORY) -> TraceReader:
    """Open one trace.

    Args:
        url: path or URL of the trace.
        max_memory: limit on the memory of the replay, bytes; a record may take a part of it.

    Raises:
        UsageError: the trace cannot be opened, or a later version wrote it.
        DamagedTraceError: the file is not a trace.
    """
    try:
        system, path = url_to_fs(url)
        if "file" in system.protocol:
            _refuse_special(url, Path(path).stat().st_mode)
        file = system.open(path, "rb")
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"{url} cannot be opened: {error}.") from error
    return TraceReader(file, url, max_memory // _PARTS)
