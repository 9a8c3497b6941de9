# SPDX-License-Identifier: GPL-2.0-only
"""Processes that are followed only part of the time, to save CPU.

The busiest process is the first to be sampled. ptescope follows it for two seconds, pauses for
a multiple of that, and then reads its page tables again. The multiple doubles while too much
CPU is used, and falls when CPU is free.
"""

from dataclasses import dataclass

__all__ = ("Sampling",)

_ON = 2.0
_LONGEST_REST = 64
"""Longest pause, in multiples of `_ON`."""


@dataclass
class _Sampled:
    """A sampled process; `rest` is the length of its pauses in multiples of `_ON`."""

    rest: int
    since: float
    until: float
    resting: bool = True


class Sampling:
    """The sampled processes and their pauses. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._sampled: dict[int, _Sampled] = {}
        self._rested: dict[int, float] = {}
        self._turned: list[int] = []

    @property
    def count(self) -> int:
        """Number of sampled processes."""
        return len(self._sampled)

    def samples(self, pid: int) -> bool:
        """Whether this process is sampled."""
        return pid in self._sampled

    def resting(self, pid: int) -> bool:
        """Whether this process is paused now."""
        return pid in self._sampled and self._sampled[pid].resting

    def watched(self, pid: int, found: float, now: float) -> float:
        """Share of the time since `found` in which the process was followed, 0 to 1."""
        rested = self._rested.get(pid, 0.0)
        if self.resting(pid):
            rested += now - self._sampled[pid].since
        return max(1.0 - rested / (now - found), 0.0) if now > found else 1.0

    def save(self, events_per_second: dict[int, float], now: float) -> None:
        """Save CPU: sample the busiest process that is not sampled, and lengthen all pauses."""
        for sampled in self._sampled.values():
            sampled.rest = min(sampled.rest * 2, _LONGEST_REST)
        others = {pid: rate for pid, rate in events_per_second.items() if pid not in self._sampled}
        if others:
            busiest = max(others, key=lambda pid: others[pid])
            self._sampled[busiest] = _Sampled(rest=1, since=now, until=now + _ON)
            self._turned.append(busiest)

    def spend(self) -> None:
        """Use free CPU: shorten all pauses, and stop sampling processes at the minimum."""
        for pid, sampled in list(self._sampled.items()):
            if sampled.rest > 1:
                sampled.rest //= 2
            elif not sampled.resting:
                del self._sampled[pid]

    def due(self, now: float) -> list[int]:
        """The processes to pause or to resume now."""
        for pid, sampled in self._sampled.items():
            if now >= sampled.until:
                if sampled.resting:
                    self._rested[pid] = self._rested.get(pid, 0.0) + now - sampled.since
                sampled.resting = not sampled.resting
                sampled.since = now
                sampled.until = now + _ON * (sampled.rest if sampled.resting else 1)
                self._turned.append(pid)
        turned, self._turned = self._turned, []
        return turned

    def forget(self, pid: int) -> None:
        """Drop a process that has ended."""
        self._sampled.pop(pid, None)
        self._rested.pop(pid, None)
        self._turned = [other for other in self._turned if other != pid]
