# SPDX-License-Identifier: GPL-2.0-only
"""A host as metrics for Prometheus and OpenMetrics.

Each of the largest processes and cgroups has its own series. The series "other" is the sum of the
rest, so the number of series is bounded. Sums are gauges, because processes end and move between
their own series and "other". Only totals of one process or of ptescope itself are counters.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shadow.escape import printable
from shadow.host_view import Cost, HostProcess, HostView
from shadow.mappings import MappingUse, combined
from shadow.policy import POLICIES
from shadow.snapshot import Snapshot

__all__ = ("HostCollector",)

_OTHER = "other"
_KIB = 1024
_LABELS = [policy.label for policy in POLICIES]


def _reclaimable(snapshot: Snapshot, policy: str) -> int:
    """Bytes of PTE pages that exist now and would not exist under this policy."""
    fewer = snapshot.now.pte_pages - snapshot.policies[policy].pte_pages
    return max(fewer, 0) * snapshot.kernel.page_size


@dataclass(frozen=True)
class _Gauge:
    """A metric of followed processes that can be summed."""

    name: str
    text: str
    value: Callable[[Snapshot], float]


_SUMMED = (
    _Gauge("pte_pages", "PTE pages.", lambda s: s.now.pte_pages),
    _Gauge("empty_pte_pages", "PTE pages that map nothing.", lambda s: s.now.empty),
    _Gauge(
        "lazyfree_pte_pages",
        "PTE pages with all entries under MADV_FREE.",
        lambda s: s.now.lazyfree_only or 0,
    ),
)


def _groups(
    processes: Iterable[HostProcess], key: Callable[[HostProcess], tuple[str, ...]], top: int
) -> list[tuple[tuple[str, ...], list[HostProcess]]]:
    """Group processes by key: the largest `top` groups, and one group for the rest, if any."""
    grouped: dict[tuple[str, ...], list[HostProcess]] = {}
    for process in processes:
        grouped.setdefault(key(process), []).append(process)
    by_size = sorted(grouped.items(), key=lambda item: -sum(p.vm_pte_kib for p in item[1]))
    rest = [process for _, group in by_size[top:] for process in group]
    if not rest:
        return by_size
    width = len(by_size[0][0])
    return [*by_size[:top], ((_OTHER, *[""] * (width - 1)), rest)]


def _summed(
    what: str,
    labels: list[str],
    groups: list[tuple[tuple[str, ...], list[HostProcess]]],
) -> Iterator[Metric]:
    """All metrics that can be summed; processes that are not followed have VmPTE only."""
    size = GaugeMetricFamily(
        f"ptescope_{what}_page_table_bytes", "VmPTE as reported by the kernel.", labels=labels
    )
    for key, processes in groups:
        size.add_metric(key, sum(process.vm_pte_kib for process in processes) * _KIB)
    yield size
    followed = [(key, [p.snapshot for p in processes if p.snapshot]) for key, processes in groups]
    followed = [(key, snapshots) for key, snapshots in followed if snapshots]
    for gauge in _SUMMED:
        family = GaugeMetricFamily(f"ptescope_{what}_{gauge.name}", gauge.text, labels=labels)
        for key, snapshots in followed:
            family.add_metric(key, sum(map(gauge.value, snapshots)))
        yield family
    family = GaugeMetricFamily(
        f"ptescope_{what}_reclaimable_bytes",
        "Bytes of PTE pages that exist now and would not exist under this policy.",
        labels=[*labels, "policy"],
    )
    for key, snapshots in followed:
        for policy in _LABELS:
            total = sum(_reclaimable(snapshot, policy) for snapshot in snapshots)
            family.add_metric([*key, policy], total)
    yield family


def _by_kind(processes: Iterable[HostProcess]) -> Iterator[Metric]:
    """The page tables of all followed processes, by the kind of mapping that owns them."""
    kinds = combined((use for process in processes for use in process.by_kind), names=False)
    for name, text, value in (
        ("page_table_bytes", "Page tables of followed processes, all levels.", _bytes_of),
        ("pte_pages", "PTE pages of followed processes.", lambda use: use.pte_pages),
        ("empty_pte_pages", "PTE pages that map nothing.", lambda use: use.empty),
    ):
        family = GaugeMetricFamily(f"ptescope_mapping_{name}", text, labels=["kind"])
        for use in kinds:
            family.add_metric([use.kind], value(use))
        yield family


def _bytes_of(use: MappingUse) -> float:
    return use.bytes


def _own(process: HostProcess) -> tuple[str, ...]:
    return printable(process.comm), str(process.pid), printable(process.cgroup)


def _counters(processes: list[HostProcess], labels: list[str]) -> Iterator[Metric]:
    """Totals of each process since ptescope started to follow it."""
    freed, again, saved, audited, lost = (
        CounterMetricFamily(f"ptescope_process_{name}", text, labels=[*labels, *more])
        for name, text, more in (
            ("freed_pte_pages", "PTE pages that each policy freed.", ["policy"]),
            (
                "reallocated_pte_pages",
                "PTE pages allocated again after each policy had freed them.",
                ["policy"],
            ),
            (
                "saved_page_seconds",
                "PTE pages that each policy saves compared with none, integrated over time.",
                ["policy"],
            ),
            (
                "audit_differences",
                "Empty PTE pages that audits found missing or extra and corrected.",
                [],
            ),
            ("lost_events", "Events lost because the ring buffer was full.", []),
        )
    )
    watched = GaugeMetricFamily(
        "ptescope_process_watched_ratio",
        "Share of time during which the process was followed.",
        labels=labels,
    )  # fmt: skip
    compared = GaugeMetricFamily(
        "ptescope_process_audited_pte_pages",
        "PTE pages in the last audit, by whether the audit could compare them.",
        labels=[*labels, "compared"],
    )
    for process in processes:
        if process.snapshot is None:
            continue
        key, audit = _own(process), process.snapshot.audit
        for label, outcome in process.snapshot.policies.items():
            freed.add_metric([*key, label], outcome.freed)
            again.add_metric([*key, label], outcome.reallocated)
            saved.add_metric([*key, label], outcome.saved_page_seconds)
        audited.add_metric(key, audit.empty_missing + audit.empty_extra)
        lost.add_metric(key, process.snapshot.window.lost)
        watched.add_metric(key, process.watched)
        if audit.runs:
            compared.add_metric([*key, "yes"], audit.compared)
            compared.add_metric([*key, "no"], audit.not_compared)
    yield from (freed, again, saved, audited, lost, watched, compared)


def _self(cost: Cost) -> Iterator[Metric]:
    """The cost, losses and failures of ptescope itself."""
    for name, text, count in (
        ("cpu_seconds", "Processor time used by ptescope, in seconds.", cost.cpu_seconds),
        ("events", "Events read from the ring buffer.", cost.events),
        ("lost_events", "Events lost because the ring buffer was full.", cost.lost),
        (
            "unseen_forks",
            "Forked processes that ended before ptescope could read them.",
            cost.uncounted_forks,
        ),
        (
            "failures",
            "Processes that ptescope stopped following because of an internal error.",
            cost.failures,
        ),
    ):
        yield CounterMetricFamily(f"ptescope_self_{name}", text, value=count)
    for name, text, value in (
        ("memory_bytes", "Resident memory of ptescope.", cost.memory_bytes),
        (
            "shadow_bytes",
            "Memory used by the shadow page tables, part of the resident memory.",
            cost.shadow_bytes,
        ),
        ("ring_size_bytes", "Size of the ring buffer.", cost.ring_bytes),
        (
            "ring_used_bytes",
            "Bytes in the ring buffer that are not read yet.",
            cost.ring_used_bytes,
        ),
        (
            "sees_events",
            "1 if the self-test event was seen recently, else 0.",
            int(cost.sees_events),
        ),
    ):
        yield GaugeMetricFamily(f"ptescope_self_{name}", text, value=value)


class HostCollector(Collector):
    """Turns views of a host into metrics.

    Args:
        view: returns the current view of the host.
        top: the number of processes, of cgroups and of names that have their own series.
    """

    def __init__(self, view: Callable[[], HostView], top: int) -> None:
        self._view, self._top = view, top

    def collect(self) -> Iterator[Metric]:
        """Collect all metrics from one view."""
        view, labels = self._view(), ["name", "pid", "cgroup"]
        largest = _groups(view.processes, _own, self._top)
        yield from _summed("process", labels, largest)
        apart = [group[0] for key, group in largest if key[0] != _OTHER or key[1]]
        yield from _counters(apart, labels)
        cgroups = _groups(view.processes, lambda p: (printable(p.cgroup),), self._top)
        yield from _summed("cgroup", ["cgroup"], cgroups)
        followed = [process for process in view.processes if process.snapshot]
        names = _groups(followed, lambda p: (printable(p.comm),), self._top)
        yield from _summed("name", ["name"], names)
        yield from _by_kind(followed)
        number = GaugeMetricFamily(
            "ptescope_processes",
            "Processes, by whether they are followed, sampled or counted.",
            labels=["following"],
        )
        for following in ("followed", "sampled", "counted"):
            number.add_metric([following], sum(p.following == following for p in view.processes))
        yield number
        kernel = GaugeMetricFamily(
            "ptescope_kernel_info",
            "The kernel release and its policy for freeing PTE pages; always 1.",
            labels=["release", "policy"],
        )  # fmt: skip
        kernel.add_metric([printable(view.release), view.policy], 1)
        yield kernel
        yield GaugeMetricFamily(
            "ptescope_page_size_bytes",
            "The size of a page, and of each PTE page.",
            value=view.page_size,
        )
        yield from _self(view.cost)

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not have to make a view."""
        return []
