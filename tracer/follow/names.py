# SPDX-License-Identifier: GPL-2.0-only
"""Names of the mappings of a followed process, kept up to date at little cost.

Events say that a file was mapped, not which one. Its name is read from /proc/PID/maps, once
for all mappings, and only where there are some without a name.
"""

import time

from shadow.engine import Engine
from shadow.mapped_tables import unnamed
from shadow.records import Mappings
from tracer.process.target import Target

__all__ = ("Names",)


class Names:
    """Reads names when they are missing.

    Args:
        target: the process.
        engine: its shadow.
    """

    def __init__(self, target: Target, engine: Engine) -> None:
        self._target, self._engine = target, engine
        self._tried: frozenset[int] = frozenset()
        """Mappings for which the last reading had no name, so that it is not repeated."""

    def refresh(self) -> None:
        """Read the names if mappings have come that have none.

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
