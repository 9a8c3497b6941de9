# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one clear line on stderr, and the documented exit status."""

import re

import pytest

from tracer.cli import main


@pytest.mark.parametrize(
    "arguments",
    [
        ["attach"],
        ["attach", "-p", "1", "-n", "init"],
        ["attach", "-p", "1", "--", "true"],
    ],
)
def test_attach_wants_exactly_one_target(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "ptescope: Give one of -p PID, -n NAME, or -- CMD.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["attach", "-p", "one"],
        ["attach", "-p", "1", "-d", "0"],
        ["attach", "-p", "1", "-i", "-3"],
        ["attach", "-p", "1", "--ring", "3"],
        ["attach", "-p", "0"],
        ["attach", "-p", "99999999999999999999"],
        ["attach", "-p", "1", "-d", "nan"],
        ["attach", "-p", "1", "-d", "inf"],
        ["attach", "-p", "1", "-i", "1e-9"],
        ["attach", "-p", "1", "--ring", "4294967296"],
        ["attach", "-p", "1", "--backend", "best"],
        ["advise", "-p", "1", "--keep", "-1"],
        ["census", "one"],
        ["daemon", "--listen", "here"],
        ["daemon", "--listen", "::1:80"],
        ["daemon", "--listen", "127.0.0.1:65536"],
        ["daemon", "--max-memory", "0"],
        ["daemon", "--max-memory", "512 MB"],
        ["daemon", "--min-vmpte", "9999999999G"],
        ["daemon", "--max-cpu", "nan"],
        ["daemon", "--top", "0"],
        ["daemon", "--record-keep", "-1"],
        ["replay", "t.arrows", "--at", "1e300"],
        ["replay", "t.arrows", "--jobs", "0"],
        ["unknown"],
        [],
    ],
    ids=" ".join,
)
def test_bad_usage_is_status_2_and_says_what_the_option_takes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    if arguments[1:]:
        assert re.search(r"argument \S+: takes .*, not '.*'$", said, re.M), said


def test_an_empty_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Kernel threads have no executable, so their name is empty as well."""
    assert main(["attach", "-n", ""]) == 2
    assert "cannot be empty" in capsys.readouterr().err


def test_no_such_process_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", "-p", "4194305"]) == 3
    assert capsys.readouterr().err == "ptescope: There is no process 4194305.\n"


def test_ctrl_c_gives_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("tracer.commands.replay.ReplayCommand.run", interrupted)
    assert main(["replay", "any.arrows"]) == 130
    assert capsys.readouterr().err == "ptescope: interrupted\n"
