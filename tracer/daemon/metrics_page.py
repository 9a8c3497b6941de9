# SPDX-License-Identifier: GPL-2.0-only
"""Answers to HTTP requests: /metrics and /healthz."""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from shadow.errors import PtescopeError
from shadow.host_view import HostView
from shadow.report.metrics import HostCollector
from tracer.daemon.answers import Answer, Request, text_answer

__all__ = ("MetricsPage",)

_MOST_KEPT = 8


class _Chosen(Collector):
    """The metrics with these names or sample names; all metrics if there are no names."""

    def __init__(self, collector: Collector, names: frozenset[str]) -> None:
        self._collector, self._names = collector, names

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            there = {metric.name, *(sample.name for sample in metric.samples)}
            if not self._names or self._names & there:
                yield metric


class MetricsPage:
    """Answers requests. Requests that arrive during the making of a view share it and its text.

    Args:
        view: returns the current state of the host; may raise TimeoutError or PtescopeError.
        top: number of processes and of cgroups with their own metrics.
    """

    def __init__(self, view: Callable[[], HostView], top: int) -> None:
        self._view, self._top = view, top
        self._asker = ThreadPoolExecutor(1, "ask")
        self._asking: asyncio.Future[HostView] | None = None
        self._shown: HostView | None = None
        self._kept: dict[tuple[str, bool], Answer] = {}

    async def _look(self) -> HostView:
        if self._asking is None or self._asking.done():
            loop = asyncio.get_running_loop()
            self._asking = asyncio.ensure_future(loop.run_in_executor(self._asker, self._view))
        return await asyncio.shield(self._asking)

    @staticmethod
    def serves(path: str) -> bool:
        """Whether this path has metrics or the health."""
        return path in ("/metrics", "/healthz")

    async def answer(self, request: Request) -> Answer:
        """Answer a request for a path that `serves` accepts."""
        url = urlsplit(request.target)
        try:
            view = await self._look()
        except (TimeoutError, PtescopeError) as error:
            return text_answer(503, str(error))
        if url.path == "/healthz":
            return self._health(view)
        return self._metrics(view, request, parse_qs(url.query).get("name[]", []))

    @staticmethod
    def _health(view: HostView) -> Answer:
        if not view.cost.sees_events:
            return text_answer(503, "the last test event did not come back")
        return text_answer(200, "events come in")

    def _metrics(self, view: HostView, request: Request, names: list[str]) -> Answer:
        """The page of a view. Full pages are kept for each format; selections are not."""
        if self._shown is not view:
            self._shown, self._kept = view, {}
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        form = request.headers.get("accept", ""), zipped
        if not names and form in self._kept:
            return self._kept[form]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Chosen(HostCollector(lambda: view, self._top), frozenset(names)))
        encode, content_type = choose_encoder(form[0])
        body = encode(registry)
        headers = [("Content-Type", content_type)]
        if zipped:
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
        answer = Answer(200, body, tuple(headers))
        if not names and len(self._kept) < _MOST_KEPT:
            self._kept[form] = answer
        return answer

    def close(self) -> None:
        """Stop requesting views."""
        self._asker.shutdown(wait=False, cancel_futures=True)
