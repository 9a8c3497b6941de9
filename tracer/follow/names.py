# SPDX-License-Identifier: GPL-2.0-only
"""Keeps the names of the mappings of a followed process up to date at little cost.

Events show that a process mapped a file, but not the name of the file. ptescope reads
/proc/PID/maps for the names, once for all mappings, and only if some mappings have no name.
"""

import time

from shadow.engine import Engine
from shadow.mapped_tables import unnamed
from shadow.records import Mappings
from tracer.process.target import Target

__all__ = ("Names",)


class Names:
    """Reads names if they are missing.

    Args:
        target: the process.
        engine: its shadow.
    """

    def __init__(self, target: Target, engine: Engine) -> None:
        self._target, self._engine = target, engine
        self._tried: frozenset[int] = frozenset()
        """Mappings without a name in the last reading, so that `refresh` does not repeat it."""

    def refresh(self) -> None:
        """Read the names if there are new mappings without a name.

        Raises:
            OSError: the process has ended.
        """
        engine = self._engine
        missing = unnamed(engine.table, engine.names)
        if engine.names is not None and missing <= self._tried:
            return
        names = self._target.names(engine.vmas())
        engine.apply(Mappings(time.monotonic_ns(), names=names))
        self._tried = unnamed(engine.table, engine.names)
