# SPDX-License-Identifier: GPL-2.0-only
"""The screens of `ptescope top`: a table of processes, and one process in detail."""

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from shadow.errors import PtescopeError
from shadow.escape import printable, reporter
from shadow.host_view import HostProcess, HostView
from shadow.plural import counted
from shadow.report.format import size
from shadow.report.top.detail import detail
from shadow.report.top.rows import COLUMNS, ORDERS, by_name, cells, group_cells, matches

__all__ = ("TopApp",)

_HISTORY = 60
Look = Callable[[int | None], HostView]
"""Returns a view of the host, with the slots of the process with this pid, if one is given."""


@reporter
def summary(view: HostView, order: str, *, paused: bool) -> str:
    """The lines above the table."""
    followed = [p.snapshot for p in view.processes if p.snapshot]
    pages = sum(each.now.pte_pages for each in followed) * view.page_size
    empty = sum(each.now.empty for each in followed) * view.page_size
    kib = sum(process.vm_pte_kib for process in view.processes)
    lines = [
        f"{view.hostname}  {view.release}, policy {view.policy}   "
        f"{counted(len(view.processes), 'process')}, {len(followed)} followed   sorted by {order}"
        f"{'   PAUSED' if paused else ''}",
        f"VmPTE {size(kib << 10)}   PTE pages {size(pages)}, empty {size(empty)}   "
        f"lost {view.cost.lost:,}   own memory {view.cost.memory_bytes >> 20} MiB",
    ]
    return "\n".join(lines + view.notes)


class _ProcessScreen(Screen[None]):
    """The screen of one process; Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "app.pop_screen", "Back")]

    def compose(self) -> ComposeResult:
        """Create a text that scrolls, and the footer."""
        yield VerticalScroll(Static(id="detail", markup=False))
        yield Footer()

    def show(self, text: str) -> None:
        """Show this text."""
        self.query_one("#detail", Static).update(text)


class TopApp(App[None]):
    """The host, refreshed periodically.

    Args:
        look: returns a view; the app calls it in a thread, so it may be slow.
        every: seconds between two views.
    """

    CSS = "#filter { display: none; } #summary { height: auto; padding: 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("e", "order('empty')", "Empty"),
        ("s", "order('size')", "Size"),
        ("g", "order('growth')", "Growth"),
        ("v", "order('events')", "Events"),
        ("slash", "filter", "Filter"),
        Binding("n", "names", "By name", show=False),
        ("p", "pause", "Pause"),
        ("q", "quit", "Quit"),
    ]

    def __init__(self, look: Look, every: float = 2.0) -> None:
        super().__init__()
        self._look, self._every = look, every
        self._order, self._filter, self._paused = "empty", "", False
        self._by_name = False
        self._view: HostView | None = None
        self._old: str | None = None
        """Why the view is stale; None: it is current."""
        self.problem: PtescopeError | None = None
        """The error that ended the app, if any."""
        self._opened: tuple[int, int] | None = None
        """The process on the detail screen: its pid and start time."""
        self._events: dict[int, deque[float]] = {}

    def compose(self) -> ComposeResult:
        """Create the summary, the filter, the table and the footer."""
        yield Static(id="summary", markup=False)
        yield Input(id="filter", placeholder="name, cgroup or pid; Enter to keep, empty for all")
        yield DataTable[Text](id="table", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Start to fetch views."""
        self._table.add_columns(*COLUMNS)
        self._table.focus()
        self.set_interval(self._every, self._fetch)
        self._fetch()

    @property
    def _table(self) -> "DataTable[Text]":
        table: DataTable[Text] = self.screen_stack[0].query_one("#table", DataTable)
        return table

    @work(thread=True, exclusive=True)
    def _fetch(self) -> None:
        """Fetch a view in a separate thread, while the screens stay usable.

        A paused app fetches views too, because it must exit when the source of views fails.
        """
        try:
            view = self._look(self._opened[0] if self._opened else None)
        except TimeoutError as error:
            self.call_from_thread(self._wait, str(error))
        except Exception as error:
            self.call_from_thread(self._give_up, error)
        else:
            self.call_from_thread(self._take, view)

    def _wait(self, why: str) -> None:
        """Mark the screens as stale, because no view arrived."""
        self._old = printable(why)
        self._show()

    def _give_up(self, error: Exception) -> None:
        """Exit, because no more views will arrive."""
        problem = error if isinstance(error, PtescopeError) else PtescopeError(repr(error))
        self.problem = problem
        self.exit(return_code=problem.status)

    def _take(self, view: HostView) -> None:
        if self._paused and self._view:
            return
        self._view, self._old = view, None
        alive = {process.pid for process in view.processes}
        self._events = {pid: rates for pid, rates in self._events.items() if pid in alive}
        for process in view.processes:
            rates = self._events.setdefault(process.pid, deque(maxlen=_HISTORY))
            rates.append(process.events_per_second)
        self._show()

    def _show(self) -> None:
        if not self.screen_stack or not self.screen_stack[0].query("#summary"):
            return  # the view arrived while the app exits
        top = self.screen_stack[0]
        old = f"STALE: {self._old}\n" if self._old else ""
        if self._view is None:
            top.query_one("#summary", Static).update(old)
            return
        top.query_one("#summary", Static).update(
            old + summary(self._view, self._order, paused=self._paused)
        )
        shown = [p for p in self._view.processes if matches(p, self._filter)]
        shown.sort(key=lambda p: (ORDERS[self._order](p), p.vm_pte_kib), reverse=True)
        table, row, scroll = self._table, self._table.cursor_row, self._table.scroll_offset
        table.clear()
        # rich parses a str as markup, and a name may contain markup.
        if self._by_name:
            for line in self._groups(shown):
                table.add_row(*map(Text, line))
        else:
            for process in shown:
                key = f"{process.pid} {process.start_time}"
                table.add_row(*map(Text, cells(process)), key=key)
        table.move_cursor(row=min(row, max(table.row_count - 1, 0)))
        table.scroll_to(scroll.x, scroll.y, animate=False)
        if isinstance(self.screen, _ProcessScreen):
            self._show_process(self.screen)

    def _groups(self, shown: list[HostProcess]) -> list[tuple[str, ...]]:
        """A row of sums for each name, sorted like the processes."""
        order = ORDERS[self._order]

        def weight(group: tuple[str, list[HostProcess]]) -> tuple[float, int]:
            _, members = group
            return sum(map(order, members)), sum(process.vm_pte_kib for process in members)

        return [group_cells(*group) for group in sorted(by_name(shown), key=weight, reverse=True)]

    def _show_process(self, screen: _ProcessScreen) -> None:
        assert self._view
        assert self._opened
        found = [p for p in self._view.processes if (p.pid, p.start_time) == self._opened]
        if not found:
            screen.show(f"Process {self._opened[0]} has ended.")
            return
        process: HostProcess = found[0]
        rates = list(self._events.get(process.pid, ()))
        old = f"STALE: {self._old}\n" if self._old else ""
        # The view may date from a time when another process was open, or none.
        slots = self._view.slots if self._view.slots_of in (None, process.pid) else {}
        screen.show(old + detail(process, slots, rates, self.size.width))

    def action_order(self, order: str) -> None:
        """Sort by this order."""
        self._order = order
        self._show()

    def action_names(self) -> None:
        """Switch between one row for each name and one row for each process."""
        self._by_name = not self._by_name
        self._show()

    def action_pause(self) -> None:
        """Freeze the screen, or continue."""
        self._paused = not self._paused
        self._show()

    def action_filter(self) -> None:
        """Open the filter input."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter."""
        self._filter = event.value.strip()
        event.input.display = False
        self._table.focus()
        self._show()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the screen of the selected process."""
        if event.row_key.value is None:  # a row of sums
            return
        pid, start_time = map(int, event.row_key.value.split())
        self._opened = pid, start_time
        screen = _ProcessScreen()
        self.push_screen(screen, callback=lambda _: self._close())
        self.call_after_refresh(self._show)
        self._fetch()

    def _close(self) -> None:
        self._opened = None
