# SPDX-License-Identifier: GPL-2.0-only
"""Prepares all compiled functions before time matters."""

from dataclasses import replace

import numpy as np

from shadow.events import EVENT
from shadow.table.jit import compiling, forget_compiling
from shadow.table.state import VMA
from shadow.table.table import Table

__all__ = ("prepare",)


def prepare(*, lean: bool = False) -> None:
    """Compile the loop, or load it from the cache, before time matters.

    Compiling takes one to two minutes, and the log says so. Later starts on the same
    machine load the cache in 0.1 s.

    Args:
        lean: use 28 MiB less, for a caller that compiles no more of the table's functions.
    """
    with compiling("the shadow table, one to two minutes"):
        table = Table()
        table.feed(np.empty(0, EVENT))
        none = np.empty(0, np.int64)
        pages = Table.of_runs(none, none, np.empty(0, np.uint8)).pages()
        table.seed(replace(pages, guards=(none, none)), 0)
        table.adopt_upper(none, none)
        table.seed_vmas(np.empty(0, VMA), 0)
        table.fork()
    if lean:
        forget_compiling()
