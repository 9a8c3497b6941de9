# SPDX-License-Identifier: GPL-2.0-only
"""Live tests run when they can; with PTESCOPE_LIVE=1 they must."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# A first call may compile; how long an example takes says nothing here.
settings.register_profile("ptescope", deadline=None)
settings.load_profile("ptescope")

# A shell ignores SIGINT in its background jobs, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_FORCED = os.environ.get("PTESCOPE_LIVE") == "1"
_LIVE = tuple(Path(__file__).parent / name for name in ("live", "vm"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """More than a usual run does."""
    parser.addoption(
        "--all-kernels", action="store_true", help="boot all kernels of tests/vm, not three"
    )
    parser.addoption("--package", action="store_true", help="build and install Debian packages")
    parser.addoption(
        "--zero-kernel", action="store_true", help="build two kernels and run tests/vm on them too"
    )


_ON_REQUEST = {
    "vm/test_zero_kernel.py": "--zero-kernel",
    "vm/test_service.py": "--package",
    "install/test_page.py": "--package",
}
"""Files of tests that take long, and the option that asks for each."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests that take long, unless they are asked for."""
    option = _ON_REQUEST.get("/".join(collection_path.parts[-2:]))
    return None if option is None or config.getoption(option) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in tests/live and tests/vm; skip it without root unless it is forced."""
    for item in items:
        if any(folder in item.path.parents for folder in _LIVE):
            item.add_marker(pytest.mark.live)
            if os.geteuid() != 0 and not _FORCED:
                item.add_marker(pytest.mark.skip(reason="needs root; PTESCOPE_LIVE=1 forces it"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With PTESCOPE_LIVE=1 a live test that skips itself fails."""
    report = yield
    if _FORCED and report.skipped and item.get_closest_marker("live"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though PTESCOPE_LIVE=1 says that it must run: {call.excinfo}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many live tests ran, so that a silent skip is seen."""
    ran = sum(
        report.when == "call" and "live" in report.keywords
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
    )
    terminalreporter.write_line(f"live tests run: {ran}")
