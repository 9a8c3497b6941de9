"""The command line: one clear line on stderr, and the contract's exit status."""

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
        ["unknown"],
        [],
    ],
)
def test_bad_usage_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_no_such_process_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", "-p", "4194305"]) == 3
    assert capsys.readouterr().err == "ptescope: There is no process 4194305.\n"


def test_ctrl_c_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("tracer.commands.replay.Replay.run", interrupted)
    assert main(["replay", "any.arrows"]) == 130
    assert capsys.readouterr().err == "ptescope: interrupted\n"
