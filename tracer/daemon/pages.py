# SPDX-License-Identifier: GPL-2.0-only
"""Answers to requests for the live pages and their data: / and /process/PID.

The pages are the same for everybody and are made once. Their data come from the views that `top`
shows. Only a request makes a view, one at a time, and at most a share of one CPU goes into them,
so clients cannot keep the daemon from its work.
"""

import asyncio
import gzip
import ipaddress
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from socket import gethostname
from typing import Any
from urllib.parse import urlsplit

from shadow.errors import PtescopeError
from shadow.host_view import HostView
from shadow.version import VERSION
from tracer.daemon.answers import Answer, Request, text_answer

__all__ = ("LivePages",)

_PAGE = re.compile(r"/(?:process/([1-9][0-9]{0,9}))?")
_DATA = re.compile(r"/(?:host|process/([1-9][0-9]{0,9}))\.json")
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "no-store"),
)
_NO_SCRIPTS = "default-src 'none'; frame-ancestors 'none'"
_FRESH_SECONDS = 1.0
_CPU_SHARE = 0.1
"""Share of one CPU for the data of pages; after a view that took long, the next one waits."""
_LONGEST_REST = 3.0
_MOST_WAITING = 32
"""Requests for data that wait for a view."""

Look = Callable[[int | None], HostView]


class LivePages:
    """Answers requests for pages and their data.

    Args:
        look: returns a view of the host, with the slots of the process with this pid, if one is
            given; may raise TimeoutError or PtescopeError.
        host: the address that the server listens on, by which clients may call it.
    """

    def __init__(self, look: Look, host: str) -> None:
        self._look = look
        self._names = {host.lower(), "localhost", gethostname().lower()}
        self._asker = ThreadPoolExecutor(1, "look")
        self._maker = ThreadPoolExecutor(1, "page")
        self._waiting: dict[int | None, asyncio.Task[Answer]] = {}
        self._last: tuple[int | None, float, Answer] | None = None
        self._rest_until = 0.0

    def serves(self, path: str) -> bool:
        """Whether this path is a page or its data."""
        return bool(_PAGE.fullmatch(path) or _DATA.fullmatch(path))

    async def answer(self, request: Request) -> Answer:
        """Answer a request for a path that `serves` accepts."""
        path = urlsplit(request.target).path
        if not self._is_called_by_name(request.headers.get("host")):
            # Else a page of another site could read this one after it changed its DNS entry.
            return _safe(text_answer(421, "Call this server by its address or as localhost."))
        if request.headers.get("sec-fetch-site") == "cross-site" and _DATA.fullmatch(path):
            return _safe(text_answer(403, "Other sites may not read this."))
        found = _DATA.fullmatch(path)
        if found is None:
            return await self._page(request)
        return await self._data(int(found[1]) if found[1] else None)

    def _is_called_by_name(self, host: str | None) -> bool:
        """Whether the Host header has an address or a name of this host; a browser sends one."""
        if host is None:
            return True
        name = (urlsplit(f"//{host}").hostname or "").lower()
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return name in self._names
        return True

    async def _page(self, request: Request) -> Answer:
        """The page, which finds out from its address which data to fetch."""
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        loop = asyncio.get_running_loop()
        page, policy = await loop.run_in_executor(self._maker, _rendered, zipped)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'"),
        ]
        if zipped:
            headers.append(("Content-Encoding", "gzip"))
        return Answer(200, page, (*headers, *_HEADERS))

    async def _data(self, pid: int | None) -> Answer:
        """The data of the host or a process; requests for the same share it."""
        if self._last and self._last[0] == pid:
            _, made, answer = self._last
            if time.monotonic() - made < _FRESH_SECONDS:
                return answer
        task = self._waiting.get(pid)
        if task is None:
            if len(self._waiting) >= _MOST_WAITING:
                busy = text_answer(503, "Too many processes are looked at.", ("Retry-After", "5"))
                return _safe(busy)
            task = self._waiting[pid] = asyncio.create_task(self._look_at(pid))
            task.add_done_callback(lambda _: self._waiting.pop(pid, None))
        return await asyncio.shield(task)

    async def _look_at(self, pid: int | None) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._asker, self._made, pid)
        except (TimeoutError, PtescopeError) as error:
            return _safe(text_answer(503, str(error)))
        if body is None:
            return _safe(text_answer(404, f"There is no process {pid}."))
        headers = (
            ("Content-Type", "application/json"),
            ("Content-Security-Policy", _NO_SCRIPTS),
        )
        answer = Answer(200, body, (*headers, *_HEADERS))
        self._last = pid, time.monotonic(), answer
        return answer

    def _made(self, pid: int | None) -> bytes | None:
        """Make the data, after a rest if the last data took long; runs in the thread."""
        from shadow.report.page.live import host_data, live_process_data  # only when somebody looks

        time.sleep(max(self._rest_until - time.monotonic(), 0))
        begin = time.monotonic()
        plain: dict[str, Any] | None
        view = self._look(pid)
        plain = host_data(view) if pid is None else live_process_data(view, pid)
        body = None if plain is None else json.dumps(plain, separators=(",", ":")).encode()
        end = time.monotonic()
        self._rest_until = end + min((end - begin) / _CPU_SHARE, _LONGEST_REST)
        return body

    def close(self) -> None:
        """Stop requesting views."""
        for executor in (self._asker, self._maker):
            executor.shutdown(wait=False, cancel_futures=True)


def _safe(answer: Answer) -> Answer:
    """An answer in words, with the headers of a page."""
    policy = ("Content-Security-Policy", _NO_SCRIPTS)
    return Answer(answer.status, answer.body, (*answer.headers, policy, *_HEADERS))


@cache
def _rendered(zipped: bool) -> tuple[bytes, str]:
    """The page and its Content-Security-Policy."""
    from shadow.report.page.assets import assets  # these take memory; only when somebody looks
    from shadow.report.page.render import live_page

    page = live_page(VERSION).encode()
    return gzip.compress(page, 6) if zipped else page, assets().policy(connect=True)
