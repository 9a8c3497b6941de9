# SPDX-License-Identifier: GPL-2.0-only
"""Selected processes that are not followed, and the reasons."""

import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from shadow.plural import are, counted

__all__ = ("Identity", "Refusals", "described")

Identity = tuple[int, int]
"""Pid and start time of a process."""
_TRY_AGAIN = 60.0
"""Seconds until a process that could not be followed is tried again."""


def described(error: Exception) -> str:
    """One line on an internal error: the error and its place."""
    trace = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(trace[-1].filename).name}:{trace[-1].lineno}" if trace else ""
    return f"an internal error of ptescope, {type(error).__name__}: {error}{where}"


@dataclass(frozen=True)
class _Refusal:
    why: str
    until: float


class Refusals:
    """Processes that cannot be read, or for which there is no memory.

    Args:
        memory_bytes: the memory limit.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._refused: dict[Identity, _Refusal] = {}
        self._too_large: set[Identity] = set()

    def refuse(self, process: Identity, why: str, now: float) -> None:
        """Skip a process that cannot be followed, for a minute."""
        self._refused[process] = _Refusal(why, now + _TRY_AGAIN)

    def let_go(self, process: Identity, now: float) -> None:
        """Skip a process that was dropped to save memory."""
        self._too_large.add(process)
        self.refuse(process, "for lack of memory", now)

    def fits(self, process: Identity, *, fits: bool) -> None:
        """Record whether there is memory for a process that is not followed yet."""
        if fits:
            self._too_large.discard(process)
        else:
            self._too_large.add(process)

    def accept(self, process: Identity) -> None:
        """Remove a process that is now followed."""
        self._refused.pop(process, None)

    def now(self, now: float) -> set[Identity]:
        """The processes not to try now."""
        return {process for process, refusal in self._refused.items() if now < refusal.until}

    def keep(self, there: Collection[Identity]) -> None:
        """Forget all other processes, which have ended."""
        self._refused = {who: why for who, why in self._refused.items() if who in there}
        self._too_large.intersection_update(there)

    def notes(self) -> list[str]:
        """Sentences on the skipped processes."""
        notes = []
        if self._too_large:
            notes.append(
                f"{are(len(self._too_large), 'process')} only counted: to follow them would "
                f"exceed --max-memory, {self._memory_bytes >> 20} MiB."
            )
        unread = self._refused.keys() - self._too_large
        if unread:
            notes.append(
                f"{counted(len(unread), 'process')} cannot be followed, only counted; of one of "
                f"them: {self._refused[min(unread)].why}"
            )
        return notes
