# SPDX-License-Identifier: GPL-2.0-only
"""Facts about the kernel, from stand-ins for its files in /sys."""

from pathlib import Path

import pytest

from tracer import kernel


@pytest.mark.parametrize(
    ("says", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", "none"),
    ],
)
def test_the_lockdown_mode_is_the_one_in_brackets(
    says: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lockdown"
    path.write_text(says)
    monkeypatch.setattr(kernel, "_LOCKDOWN", path)
    assert kernel.lockdown() == mode


def test_a_kernel_without_lockdown_is_not_locked_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_LOCKDOWN", tmp_path / "none")
    assert kernel.lockdown() == "none"
