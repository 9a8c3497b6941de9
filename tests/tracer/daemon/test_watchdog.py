# SPDX-License-Identifier: GPL-2.0-only
"""The service manager hears from the daemon only while its test events come back."""

import pytest

from tracer.commands import daemon


class _Host:
    """As much of a host as the watchdog looks at."""

    def __init__(self, *, blind: bool) -> None:
        self.blind = blind


@pytest.mark.parametrize(("blind", "sent"), [(False, ["WATCHDOG=1"]), (True, [])])
def test_a_blind_daemon_is_silent(
    blind: bool, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(daemon, "notify", heard.append)
    daemon._ping(_Host(blind=blind))  # type: ignore[arg-type]
    assert heard == sent
