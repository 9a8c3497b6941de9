"""Live tests run when they can; with PTESCOPE_LIVE=1 they must."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A first call may compile; how long an example takes says nothing here.
settings.register_profile("ptescope", deadline=None)
settings.load_profile("ptescope")

_FORCED = os.environ.get("PTESCOPE_LIVE") == "1"
_LIVE = Path(__file__).parent / "live"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in tests/live; skip it without root unless it is forced."""
    for item in items:
        if _LIVE in item.path.parents:
            item.add_marker(pytest.mark.live)
            if os.geteuid() != 0 and not _FORCED:
                item.add_marker(pytest.mark.skip(reason="needs root; PTESCOPE_LIVE=1 forces it"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many live tests ran, so that a silent skip is seen."""
    ran = sum(
        report.when == "call" and "live" in report.keywords
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
    )
    terminalreporter.write_line(f"live tests run: {ran}")
