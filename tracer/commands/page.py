# SPDX-License-Identifier: GPL-2.0-only
"""The HTML page that several commands write."""

from argparse import _ActionsContainer
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shadow.private_file import NewFile, check_place
from shadow.version import VERSION

if TYPE_CHECKING:
    from shadow.report.page.data import PageProcess, Source

__all__ = ("HtmlPage", "add_html")


def add_html(parser: _ActionsContainer) -> None:
    """Declare the option that writes the report as a page, too."""
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write the report as an HTML page"
    )


class HtmlPage:
    """The file of a page: private, complete, and never overwritten by accident.

    As a context manager it removes the file again if the block raises before `write`.

    Args:
        path: the file; None: no page is wanted.
        force: whether to replace an existing file.

    Raises:
        UsageError: the file cannot be created.
    """

    def __init__(self, path: Path | None, *, force: bool) -> None:
        self._path, self._force = path, force
        self._file: NewFile | None = None
        check_place(path, force=force)

    @property
    def wanted(self) -> bool:
        """Whether a page is wanted."""
        return self._path is not None

    def make(self) -> None:
        """Create the file, while all rights remain."""
        if self._path:
            self._file = NewFile(self._path, force=self._force)
            self._file.publish_if_folder_is_anothers()

    def write(
        self,
        document: dict[str, Any],
        processes: "Sequence[PageProcess]",
        sources: "Sequence[Source]" = (),
    ) -> None:
        """Write the page, if it is wanted; see `shadow.report.page.render.report_page`.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._path is None:
            return
        # Only a page needs these; a command without one starts earlier.
        from datetime import UTC, datetime

        from shadow.report.page.render import report_page

        made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        page = report_page(document, processes, sources, version=VERSION, made=made)
        if self._file is None:
            self.make()
        assert self._file
        with self._file.opened("w") as file:
            file.write(page)

    def __enter__(self) -> "HtmlPage":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.__exit__(kind, error, trace)
