# SPDX-License-Identifier: GPL-2.0-only
"""The stacks of one process, joined with the origins of its PTE pages.

An origin and the sample of its event have the same time and, if the event has one, the same
thread. A PTE page that was made or emptied by a reading, by the kernel, or by an event over the
rate has no sample.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from shadow.memory_limit import Room
from shadow.records import Stacks
from shadow.stacks import NO_STACK, STACK_SAMPLE, Frame, Stack, StackTotals

__all__ = ("NOT_SAMPLED", "StackStore")

NOT_SAMPLED = -1
"""The number of the stack of an event without a sample."""
_MOST_SAMPLES = 1 << 18
"""With more samples, those are dropped that no PTE page refers to."""
_UNKNOWN = Frame(None, None, 0)
_FRAME_BYTES = 400
_NUMBER_BYTES = 36


class StackStore:
    """The stacks of one process.

    Args:
        room: limits the memory; None: the caller limits it.
    """

    def __init__(self, room: Room | None = None) -> None:
        self.frames: list[Frame] = []
        self.stacks: list[Stack] = []
        self.totals: StackTotals | None = None
        """What happened so far; None: nobody requested stacks."""
        self._samples = np.empty(0, STACK_SAMPLE)
        self._new: list[npt.NDArray[np.void]] = []
        self._room = room

    def add(self, record: Stacks) -> None:
        """Add a record.

        Raises:
            NoRoomError: it needs more memory than the limit allows.
        """
        _put(self.frames, record.first_frame, record.frames, _UNKNOWN)
        _put(self.stacks, record.first_stack, record.stacks, Stack([], complete=False))
        self.totals = record.totals
        if record.first_stack == 0:
            self._samples, self._new = self._samples[:0], []
        self._new.append(record.samples)
        if self._room:
            numbers = sum(len(stack.frames) for stack in self.stacks)
            size = _FRAME_BYTES * (len(self.frames) + len(self.stacks)) + _NUMBER_BYTES * numbers
            self._room.claim(self, size)

    def is_full(self) -> bool:
        """Whether there are so many samples that `drop_unused` has to run."""
        return len(self._samples) + sum(map(len, self._new)) > _MOST_SAMPLES

    def drop_unused(self, records: npt.NDArray[Any], now: int) -> None:
        """Drop the samples that no PTE page refers to.

        Args:
            records: (n,) of `shadow.table.state.record_type`: all that exist.
            now: the events up to this time, ns, are applied; the events of later samples follow.
        """
        samples = self._all()
        used = samples["time"] > now
        for time, tid in (("made", "made_by"), ("emptied", "emptied_by")):
            found = self._indexes(records[time], records[tid])
            used[found[found >= 0]] = True
        self._samples = samples[used]

    def _all(self) -> npt.NDArray[np.void]:
        """The samples, in the order of time."""
        if self._new:
            samples = np.concatenate([self._samples, *self._new])
            self._samples = samples[np.argsort(samples["time"], kind="stable")]
            self._new = []
        return self._samples

    def _indexes(self, times: npt.NDArray[Any], tids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(n,) the index of the sample of each event, or -1."""
        samples = self._all()
        wanted = times.astype(np.uint64)
        found = np.searchsorted(samples["time"], wanted)
        result = np.full(len(wanted), -1, np.int64)
        inside = np.flatnonzero((found < len(samples)) & (wanted > 0))
        at = found[inside]
        thread = tids[inside]
        same = samples["time"][at] == wanted[inside]
        same &= (samples["tid"][at] == thread) | (thread == 0)
        result[inside[same]] = at[same]
        return result

    def of_events(self, times: npt.NDArray[Any], tids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(n,) the number of the stack at each event, or `NOT_SAMPLED`.

        Args:
            times: (n,) times of the events, ns.
            tids: (n,) their threads.
        """
        found = self._indexes(times, tids)
        numbers = np.full(len(found), NOT_SAMPLED, np.int64)
        known = found >= 0
        numbers[known] = self._samples["stack"][found[known]]
        numbers[(numbers == NO_STACK) | (numbers >= len(self.stacks))] = NOT_SAMPLED
        return numbers

    def restated(self, time: int) -> Stacks | None:
        """Everything in one record, for another store; None: there are no stacks.

        Args:
            time: the time of the record, ns.
        """
        if self.totals is None:
            return None
        return Stacks(time, 0, 0, list(self.frames), list(self.stacks), self._all(), self.totals)


def _put(known: list[Any], first: int, new: list[Any], unknown: Any) -> None:
    """Replace everything from number `first` on."""
    del known[first:]
    known += [unknown] * (first - len(known))
    known += new
