# SPDX-License-Identifier: GPL-2.0-only
"""What each stack weighs: the empty PTE pages of a snapshot, by the code that left them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shadow.escape import printable
from shadow.snapshot import Snapshot
from shadow.stacks import Frame, StackGroup

__all__ = ("INCOMPLETE", "NOT_SAMPLED", "Event", "WeighedStack", "Weight", "weigh")

NOT_SAMPLED, INCOMPLETE = "[not sampled]", "[incomplete]"


class Event(StrEnum):
    """Whose stack counts."""

    EMPTIED = "emptied"
    MADE = "made"


class Weight(StrEnum):
    """What a stack weighs."""

    PAGES = "pages"
    """The PTE pages that are empty at the end."""
    PAGE_SECONDS = "page-seconds"
    """How long these have been empty, summed up."""


@dataclass(frozen=True)
class WeighedStack:
    """A stack with its weight.

    Attributes:
        process: name and pid.
        thread: the name of the thread; None: unknown, or no thread.
        call: the event.
        frames: outermost first; None: not sampled.
        complete: whether the first frame is the first function of the thread.
        pages: PTE pages.
        seconds: page-seconds.
    """

    process: str
    thread: str | None
    call: str
    frames: list[Frame] | None
    complete: bool
    pages: int
    seconds: float

    def names(self) -> list[str]:
        """Process, thread, frames and event, outermost first."""
        if self.frames is None:
            frames = [NOT_SAMPLED]
        else:
            frames = [*([] if self.complete else [INCOMPLETE]), *map(str, self.frames)]
        names = [self.process, self.thread or "[no thread]", *frames, f"[{self.call}]"]
        return [printable(name) for name in names]

    def weight(self, by: Weight) -> float:
        """Its weight."""
        return self.pages if by is Weight.PAGES else self.seconds


def weigh(snapshot: Snapshot, event: Event) -> Iterator[WeighedStack]:
    """Weigh the stacks of a process; none without stacks.

    Args:
        snapshot: the process.
        event: whose stack counts.
    """
    report = snapshot.stacks
    if report is None:
        return
    process = f"{snapshot.process.comm} ({snapshot.process.pid})"

    def weighed(group: StackGroup) -> WeighedStack:
        if event is Event.EMPTIED:
            call, thread, number = group.emptied_call, group.emptied_by, group.emptied_stack
        else:
            call, thread, number = group.made_call, group.made_by, group.made_stack
        frames, complete = None, False
        if number is not None:
            stack = report.stacks[number]
            frames = [report.frames[each] for each in reversed(stack.frames)]
            complete = stack.complete
        pages, seconds = group.pte_pages, group.page_seconds
        return WeighedStack(process, thread, call, frames, complete, pages, seconds)

    yield from map(weighed, report.pages)
