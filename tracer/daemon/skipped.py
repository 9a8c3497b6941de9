# SPDX-License-Identifier: GPL-2.0-only
"""Processes that are not followed though they were chosen, and why."""

import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from shadow.plural import are, counted

__all__ = ("Identity", "Refusals", "described")

Identity = tuple[int, int]
"""A process: its pid and its start time."""
_TRY_AGAIN = 60.0
"""Seconds until one that could not be followed is tried again: it may have been in exec."""


def described(error: Exception) -> str:
    """What went wrong within ptescope itself, and where, on one line."""
    trace = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else ""
    return f"an error of ptescope itself, {type(error).__name__}: {error}{where}"


@dataclass(frozen=True)
class _Refusal:
    why: str
    until: float


class Refusals:
    """Who cannot be read, and whom there is no memory for.

    Args:
        memory_bytes: what may be taken.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._refused: dict[Identity, _Refusal] = {}
        self._too_large: set[Identity] = set()

    def refuse(self, process: Identity, why: str, now: float) -> None:
        """It cannot be followed; not tried again for a minute."""
        self._refused[process] = _Refusal(why, now + _TRY_AGAIN)

    def let_go(self, process: Identity, now: float) -> None:
        """There is no memory left for it."""
        self._too_large.add(process)
        self.refuse(process, "for want of memory", now)

    def fits(self, process: Identity, *, fits: bool) -> None:
        """Whether there is memory for one that is not followed yet."""
        if fits:
            self._too_large.discard(process)
        else:
            self._too_large.add(process)

    def accept(self, process: Identity) -> None:
        """It is followed after all."""
        self._refused.pop(process, None)

    def now(self, now: float) -> set[Identity]:
        """Who is not to be tried now."""
        return {process for process, refusal in self._refused.items() if now < refusal.until}

    def keep(self, there: Collection[Identity]) -> None:
        """Forget all others: they have ended."""
        self._refused = {who: why for who, why in self._refused.items() if who in there}
        self._too_large.intersection_update(there)

    def notes(self) -> list[str]:
        """The same in sentences."""
        notes = []
        if self._too_large:
            notes.append(
                f"{are(len(self._too_large), 'process')} only counted: to follow them would take "
                f"more than the {self._memory_bytes >> 20} MiB of --max-memory."
            )
        unread = self._refused.keys() - self._too_large
        if unread:
            notes.append(
                f"{counted(len(unread), 'process')} cannot be followed, only counted; of one of "
                f"them: {self._refused[min(unread)].why}"
            )
        return notes
