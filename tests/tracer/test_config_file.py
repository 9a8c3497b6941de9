# SPDX-License-Identifier: GPL-2.0-only
"""The configuration file of the daemon: every option, checked like a flag, and flags win."""

import argparse
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shadow.errors import UsageError
from tracer.cli import main
from tracer.commands.daemon import DaemonCommand
from tracer.commands.daemon_options import NOT_IN_CONFIG

Parse = Callable[..., argparse.Namespace]


def _parsed(flags: Sequence[str], path: Path | None) -> argparse.Namespace:
    """The options that the command uses."""
    parser, command = argparse.ArgumentParser(), DaemonCommand()
    command.prepare_parser(parser)
    return command._config.complete(parser.parse_args(flags), path)


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Parses a file and flags, as the command does."""

    def parsed(text: str, *flags: str) -> argparse.Namespace:
        path = tmp_path / "daemon.toml"
        path.write_text(text)
        return _parsed(flags, path)

    return parsed


def _template(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["daemon", "--print", "config"]) == 0
    return capsys.readouterr().out


def _set_lines(template: str) -> str:
    """The template with every option set."""
    return re.sub(r"(?m)^# (?=[a-z-]+ = )", "", template)


def test_the_template_has_every_option_and_sets_none(capsys: pytest.CaptureFixture[str]) -> None:
    template = _template(capsys)
    assert tomllib.loads(template) == {}
    parser = argparse.ArgumentParser()
    DaemonCommand().prepare_parser(parser)
    long = {action.option_strings[-1].removeprefix("--") for action in parser._actions}
    assert set(tomllib.loads(_set_lines(template))) == long - {"help", *NOT_IN_CONFIG}
    assert max(map(len, template.splitlines())) < 100


def test_the_template_shows_the_defaults(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        line
        for line in _set_lines(_template(capsys)).splitlines()
        if re.match(
            r"(min-vmpte|max-memory|max-cpu|listen|top|record-size|record-keep|json) =", line
        )
    ]
    assert len(lines) == 8
    assert vars(parse("\n".join(lines))) == vars(_parsed([], None))


def test_each_option_has_the_type_of_its_flag(parse: Parse) -> None:
    found = parse(
        'name = ["redis*", "pg*"]\ncgroup = "/system.slice"\n'
        'min-vmpte = "4M"\nmax-memory = 1048576\n'
        'max-cpu = 12.5\nlisten = "[::1]:80"\ntop = 3\nrecord-dir = "/x"\njson = true\n'
        'backend = "kprobe"\nsocket = "/s"\nlog-file = "/l"\nduration = 5\n'
    )
    flags = ["--name", "redis*", "--name", "pg*", "--cgroup", "/system.slice", "--min-vmpte", "4M"]
    flags += ["--max-memory", "1048576", "--max-cpu", "12.5", "--listen", "[::1]:80", "--top", "3"]
    flags += ["--record-dir", "/x", "--json", "--backend", "kprobe", "--socket", "/s"]
    flags += ["--log-file", "/l", "--duration", "5"]
    assert vars(found) == vars(parse("", *flags))
    assert found.listen == ("::1", 80)


def test_flags_win_even_with_the_default_value(parse: Parse) -> None:
    found = parse('min-vmpte = "8M"\nname = ["a", "b"]', "--min-vmpte", "1M", "--name", "c")
    assert (found.min_vmpte, found.name) == (1 << 20, ["c"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_vmpte = 1", r"unknown option 'min_vmpte'; did you mean min-vmpte\?"),
        ("zzzz = 1", "unknown option 'zzzz'; use name, cgroup"),
        ("print = 'unit'", "unknown option 'print'"),
        ("config = 'x'", "unknown option 'config'"),
        ("help = true", "unknown option 'help'"),
        ("min-vmpte = '4X'", r"min-vmpte takes a size such as 512M, .*, not '4X'\."),
        ("min-vmpte = -1", "min-vmpte takes a size"),
        ("top = true", r"top takes a string or a number\."),
        ("top = [1]", "top takes a string or a number"),
        ("name = [1.5, [2]]", "name takes a string or a number"),
        ("json = 'yes'", r"json takes true or false\."),
        ("json = 1", "json takes true or false"),
        ("max-cpu = nan", "max-cpu takes a percentage above 0, not 'nan'"),
        ("listen = 2020-01-01", "listen takes a string or a number"),
        ("[processes]\nname = 'x'", "unknown option 'processes'"),
        ("backend = 'best'", "backend takes one of"),
        ("top = ", "is no valid TOML"),
        ("'\x07' = 1", "no valid TOML"),
        ('"\\u001b[31m" = 1', r"unknown option '\\x1b\[31m'"),
    ],
)
def test_a_bad_file_is_a_usage_error(text: str, message: str, parse: Parse) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_bytes_that_are_no_text_are_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "bytes.toml"
    for data in (b"\xff\xfe", b"a = " + b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(UsageError, match="no valid TOML"):
            _parsed([], path)


def test_the_command_reads_the_named_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text("top = 0")
    assert main(["daemon", "--config", str(tmp_path / "bad.toml")]) == 2
    assert "bad.toml: top takes a whole number from 1" in capsys.readouterr().err
