# SPDX-License-Identifier: GPL-2.0-only
"""Answers `ptescope top`, which asks for views of the host on the daemon's own socket."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from shadow.errors import PtescopeError
from shadow.report.view_bytes import view_to_bytes
from tracer.daemon.answers import Answer, Request, text_answer
from tracer.daemon.pages import Look

__all__ = ("VIEW_PATH", "ViewPage")

VIEW_PATH = "/view"


class ViewPage:
    """Answers requests for views.

    Args:
        look: returns a view of the host, with the slots of the process with this pid, if one is
            given; may raise TimeoutError or PtescopeError.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._asker = ThreadPoolExecutor(1, "top")

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path is a view."""
        return path == VIEW_PATH

    async def answer(self, request: Request) -> Answer:
        """Answer a request for a path that `serves` accepts."""
        pid = parse_qs(urlsplit(request.target).query).get("pid", [""])[0]
        if pid and not (pid.isascii() and pid.isdecimal() and len(pid) < 11):
            return text_answer(400, "pid takes the number of a process.")
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._asker, self._made, int(pid) if pid else None)
        except (TimeoutError, PtescopeError) as error:
            return text_answer(503, str(error))
        return Answer(200, body, (("Content-Type", "application/msgpack"),))

    def _made(self, pid: int | None) -> bytes:
        return view_to_bytes(self._look(pid))

    def close(self) -> None:
        """Stop requesting views."""
        self._asker.shutdown(wait=False, cancel_futures=True)
