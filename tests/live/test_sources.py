# SPDX-License-Identifier: GPL-2.0-only
"""Sources of events: chosen by trying, verified, forced, and equal with every back end."""

from dataclasses import replace
from typing import Any

import pytest

from shadow.errors import NotPermittedError, PtescopeError, UnsupportedHostError
from tests.live.steps import what_is_known
from tracer.bpf import program
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.syscall import ProgramType, load_program
from tracer.kernel import kernel_facts
from tracer.probes import attachments
from tracer.probes.selftest import check, verify_or_fall_back
from tracer.probes.sources import SOURCES, Backend, Method, Source
from tracer.probes.stream import Probes

pytestmark = pytest.mark.alone

_NEVER_CALLED = Method(
    Backend.FENTRY,
    (Hook(AttachType.TRACEPOINT, "syscalls:sys_exit_swapoff", "call_end_tracepoint"),),
)
_NOT_THERE = Method(
    Backend.KPROBE, (Hook(AttachType.TRACEPOINT, "syscalls:no_such_call", "call_end_tracepoint"),)
)


def _with_methods(name: str, *methods: Method) -> tuple[Source, ...]:
    """All sources, one of them with these methods."""
    return tuple(
        replace(source, methods=methods) if source.name == name else source for source in SOURCES
    )


def _methods_of(name: str) -> tuple[Method, ...]:
    (source,) = (source for source in SOURCES if source.name == name)
    return source.methods


def test_the_verifier_checks_each_function_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[tuple[bytes, ProgramType]] = []

    def recorded(code: bytes, kind: ProgramType, **options: Any) -> int:
        verified.append((code, kind))
        return load_program(code, kind, **options)

    monkeypatch.setattr(program, "load_program", recorded)
    attached = Probes(geometry=kernel_facts().geometry, backend=Backend.TRACEPOINT)
    try:
        by_backend = attached.attachments.by_backend()
    finally:
        attached.close()
    assert {"mmap", "munmap", "madvise"} <= set(by_backend[Backend.TRACEPOINT])
    assert len(verified) == len(set(verified))


def test_fentry_comes_last_where_the_kernel_preempts_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never_called, elsewhere = _NEVER_CALLED, _methods_of("madvise")[-1]
    monkeypatch.setattr(attachments, "SOURCES", _with_methods("madvise", never_called, elsewhere))
    monkeypatch.setattr(attachments, "preempts_programs", lambda: True)
    attached = Probes(geometry=kernel_facts().geometry)
    attached.close()
    attachment = attached.attachments.by_source["madvise"]
    assert attachment.backend is elsewhere.backend
    assert "preempt" in attachment.refused[never_called.backend]


def test_a_silent_source_falls_back_to_the_next_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = (_NEVER_CALLED, _NOT_THERE, *_methods_of("madvise")[-1:])
    monkeypatch.setattr(attachments, "SOURCES", _with_methods("madvise", *methods))
    monkeypatch.setattr(attachments, "preempts_programs", lambda: False)
    attached = Probes(geometry=kernel_facts().geometry)
    try:
        assert check(attached).silent == {"madvise"}
        outcome = verify_or_fall_back(attached)
        attachment = attached.attachments.by_source["madvise"]
    finally:
        attached.close()
    assert "madvise" in outcome.seen
    assert attachment.backend is Backend.RAW_TRACEPOINT
    assert attachment.refused[Backend.FENTRY].endswith(": it is attached, but reports no events")
    assert "no_such_call" in attachment.refused[Backend.KPROBE]


def test_a_source_silent_with_every_method_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attachments, "SOURCES", _with_methods("munmap", _NEVER_CALLED))
    attached = Probes(geometry=kernel_facts().geometry)
    try:
        with pytest.raises(UnsupportedHostError, match=r"munmap.*reports no events"):
            verify_or_fall_back(attached)
    finally:
        attached.close()


def test_a_self_test_that_loses_events_rejects_no_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attached = Probes(geometry=kernel_facts().geometry, ring_bytes=4096)
    try:
        before = attached.attachments.by_backend()
        verify_or_fall_back(attached)
        assert attached.attachments.by_backend() == before
    finally:
        attached.close()
    assert "events were lost" in caplog.text


def test_the_error_names_the_required_source_that_the_kernel_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attachments, "SOURCES", _with_methods("brk", _NOT_THERE))
    with pytest.raises(UnsupportedHostError, match=r"brk.*no_such_call"):
        Probes(geometry=kernel_facts().geometry)


def test_each_back_end_gives_the_same_snapshot() -> None:
    known = what_is_known(Backend.TRACEPOINT).document
    assert known == what_is_known(Backend.RAW_TRACEPOINT).document
    assert known["window"]["lost"] == known["audit"]["pte_pages_diff"] == 0
    assert known["policies"]["pt_reclaim"]["freed"] == 9


def test_a_back_end_that_this_kernel_refuses_is_an_error_that_says_why() -> None:
    for backend in (Backend.FENTRY, Backend.KPROBE):
        with pytest.raises(
            PtescopeError, match=f"page fault.*{backend} was requested.*handle_mm_fault"
        ):
            Probes(geometry=kernel_facts().geometry, backend=backend)


def test_a_refusal_to_root_is_reported_as_a_kernel_policy() -> None:
    with pytest.raises(NotPermittedError, match=r"fexit handle_mm_fault.*in spite of CAP_SYS"):
        Probes(geometry=kernel_facts().geometry, backend=Backend.FENTRY)


def test_every_refusal_names_its_place_and_its_reason() -> None:
    attached = Probes(geometry=kernel_facts().geometry)
    attached.close()
    refusals = [
        why for each in attached.attachments.by_source.values() for why in each.refused.values()
    ]
    assert refusals
    for why in refusals:
        place, _, reason = why.partition(": ")
        assert place
        assert reason
