# SPDX-License-Identifier: GPL-2.0-only
"""Whether the kernel preempts BPF programs, by its own words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracer.probes import preemption
from tracer.probes.preemption import preempts_programs


@pytest.mark.parametrize(
    ("version", "mode", "preempts"),
    [
        ("#1 SMP Debian", None, False),
        ("#1 SMP PREEMPT_DYNAMIC", "(none) voluntary full\n", False),
        ("#1 SMP PREEMPT_DYNAMIC", "none (voluntary) full\n", False),
        ("#1 SMP PREEMPT_DYNAMIC", "none voluntary (full)\n", True),
        ("#1 SMP PREEMPT_DYNAMIC", "none voluntary full (lazy)\n", True),
        ("#1 SMP PREEMPT_DYNAMIC", None, True),
        ("#1 SMP PREEMPT_RT", None, True),
    ],
)
def test_the_mode_decides(
    version: str, mode: str | None, preempts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def folder(kind: str, mounted: str, holds: str) -> Iterator[int]:
        if mode is None:
            raise PermissionError(kind, mounted, holds)
        (tmp_path / "sched").mkdir()
        (tmp_path / "sched/preempt").write_text(mode)
        opened = os.open(tmp_path, os.O_PATH)
        yield opened
        os.close(opened)

    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(version=version))
    monkeypatch.setattr(preemption, "kernel_folder", folder)
    assert preempts_programs() is preempts
