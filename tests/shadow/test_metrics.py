# SPDX-License-Identifier: GPL-2.0-only
"""Metrics have the values of the view, and their number is bounded."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from shadow.host_view import HostView
from shadow.mappings import MappingUse
from shadow.report.metrics import HostCollector
from tests.shadow.hosts import host_view


def _registry(top: int) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(host_view, top))
    return registry


def _value(registry: CollectorRegistry, metric: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"ptescope_{metric}", labels)


def test_a_followed_process_has_all_metrics() -> None:
    registry, process = _registry(10), host_view().processes[0]
    assert process.snapshot
    mine = {"name": "server-0", "pid": "1000", "cgroup": "/"}
    assert _value(registry, "process_pte_pages", **mine) == process.snapshot.now.pte_pages == 40
    assert _value(registry, "process_empty_pte_pages", **mine) == 10
    assert _value(registry, "process_page_table_bytes", **mine) == 4096 * 42
    reclaimable = {
        policy: _value(registry, "process_reclaimable_bytes", **mine, policy=policy)
        for policy in ("none", "pt_reclaim", "dontneed_zero", "pte_ref")
    }
    assert reclaimable == {
        "none": 0,
        "pt_reclaim": 0,
        "dontneed_zero": 10 * 4096,
        "pte_ref": 10 * 4096,
    }
    assert _value(registry, "process_freed_pte_pages_total", **mine, policy="pt_reclaim") == 10


def test_page_seconds_and_audits_extend_to_the_end_of_the_window() -> None:
    """The last event happens after 1 ms; the window ends after 60 s."""
    registry = _registry(10)
    mine = {"name": "server-0", "pid": "1000", "cgroup": "/"}
    saved = {
        policy: _value(registry, "process_saved_page_seconds_total", **mine, policy=policy)
        for policy in ("none", "pt_reclaim", "dontneed_zero", "pte_ref")
    }
    assert saved["none"] == 0
    assert saved["pt_reclaim"] == pytest.approx(10 * 60, rel=0.01)
    assert saved["dontneed_zero"] == pytest.approx(20 * 60, rel=0.01)
    assert saved["pte_ref"] == pytest.approx(20 * 60, rel=0.01)
    audited = {
        compared: _value(registry, "process_audited_pte_pages", **mine, compared=compared)
        for compared in ("yes", "no")
    }
    assert audited == {"yes": 39, "no": 1}


def test_a_counted_process_has_only_its_size() -> None:
    registry = _registry(10)
    mine = {"name": "server-4", "pid": "1004", "cgroup": "/"}
    assert _value(registry, "process_page_table_bytes", **mine) == 4096 * 22
    assert _value(registry, "process_pte_pages", **mine) is None
    assert _value(registry, "processes", following="counted") == 2
    assert _value(registry, "processes", following="sampled") == 1


def test_the_series_other_is_the_sum_of_the_rest() -> None:
    few, all_apart = _registry(2), _registry(10)
    other = {"name": "other", "pid": "", "cgroup": ""}
    for name in ("process_page_table_bytes", "process_pte_pages", "process_empty_pte_pages"):
        apart = [
            sample.value
            for family in all_apart.collect()
            for sample in family.samples
            if sample.name == f"ptescope_{name}"
        ]
        kept = [
            sample.value
            for family in few.collect()
            for sample in family.samples
            if sample.name == f"ptescope_{name}"
        ]
        assert len(kept) == 3
        assert sum(kept) == sum(apart)
        assert _value(few, name, **other)


def test_the_cost_of_ptescope_is_reported() -> None:
    registry = _registry(1)
    assert _value(registry, "self_cpu_seconds_total") == 3.5
    assert _value(registry, "self_lost_events_total") == 2
    assert _value(registry, "self_sees_events") == 1
    assert _value(registry, "kernel_info", release="6.18.0", policy="pt_reclaim") == 1


def _use(kind: str, name: str, pages: float) -> MappingUse:
    return MappingUse(
        *(kind, name, 1, 4, pages, pages / 2, 0.0, 9, 0.5, 0.5, 0.0),
        *(int(4096 * (pages + 1)), 0.5),
    )


def _with_kinds() -> HostView:
    view = host_view()
    kinds = [_use("file", "/a", 3.5), _use("file", "/b", 0.5), _use("heap", "[heap]", 2.0)]
    return replace(view, processes=[replace(p, by_kind=kinds) for p in view.processes])


def test_page_tables_by_kind_of_mapping_have_no_names() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(_with_kinds, 1))
    followed = sum(process.snapshot is not None for process in host_view().processes)
    assert followed == 4
    assert _value(registry, "mapping_pte_pages", kind="file") == 4.0 * followed
    assert _value(registry, "mapping_empty_pte_pages", kind="heap") == 1.0 * followed
    assert _value(registry, "mapping_page_table_bytes", kind="heap") == 4096 * 3 * followed
    kinds = [
        sample.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.name.startswith("ptescope_mapping_")
    ]
    assert len(kinds) == 2 * 3
    assert all(labels.keys() == {"kind"} for labels in kinds)


def test_processes_of_one_name_are_one_series() -> None:
    view = host_view()
    alike = replace(view, processes=[replace(p, comm="worker") for p in view.processes])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(lambda: alike, 2))
    followed = [p.snapshot for p in view.processes if p.snapshot]
    assert _value(registry, "name_pte_pages", name="worker") == sum(
        snapshot.now.pte_pages for snapshot in followed
    )
    few = _registry(2)
    assert _value(few, "name_pte_pages", name="other")
    assert _value(few, "name_pte_pages", name="server-4") is None  # it is only counted
