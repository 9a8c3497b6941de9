# SPDX-License-Identifier: GPL-2.0-only
"""The help of every command, and the message for every bad option value."""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from shadow.version import VERSION
from tracer import cli
from tracer.cli import main, whole_parser

_NONSENSE = ("nonsense!", "-0x7", "", "1e999", "\x1b[31m")
_DEFAULT_GROUPS = ("positional arguments", "options")


def _commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in whole_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def _options() -> Iterator[tuple[str, argparse.Action]]:
    for name, parser in _commands().items():
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                yield name, action


def _title(action: argparse.Action) -> str:
    return "/".join(action.option_strings) or str(action.metavar or action.dest)


_ALL = [pytest.param(c, a, id=f"{c} {_title(a)}") for c, a in _options()]


@pytest.mark.parametrize("name", _commands())
def test_help_has_a_sentence_groups_and_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = _commands()[name]
    assert re.fullmatch(r"[A-Z][^.\n]*\.", parser.description or "")
    for group in parser._action_groups:
        alone = all(isinstance(action, argparse._HelpAction) for action in group._group_actions)
        assert alone if group.title in _DEFAULT_GROUPS else group._group_actions
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  ptescope {name}" in text
    assert max(map(len, text.partition("\n\n")[2].splitlines())) <= 100


@pytest.mark.parametrize(("name", "place", "summary"), [(n, *e) for n, e in cli._COMMANDS.items()])
def test_a_class_has_the_summary_of_its_command(name: str, place: str, summary: str) -> None:
    command = resolve_name(f"tracer.commands.{place}")
    assert command.__doc__.startswith(summary), name


def test_help_and_version_import_no_command() -> None:
    code = (
        "import sys; from tracer.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('numpy', 'numba', 'rich', 'bcc')])"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("place", sorted({place for place, _ in cli._COMMANDS.values()}))
def test_a_command_imports_no_compiler(place: str) -> None:
    """bcc, numba and LLVM take a third of a second and 100 MiB; other processes use them."""
    module = place.partition(":")[0]
    code = (
        f"import sys, tracer.commands.{module}\n"
        "print([name for name in sys.modules if name in ('numba', 'llvmlite', 'bcc')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_version_has_one_source_and_needs_no_look_up() -> None:
    """The package metadata has the same version, but no start reads it."""
    code = (
        "import sys; from tracer.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('importlib.metadata')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"ptescope {VERSION}\n[]\n", done.stderr
    root = Path(__file__).parents[2]
    assert (root / "CHANGELOG.md").read_text().count(f"\n## {VERSION} - 20") == 1
    metadata = ProjectMetadata(str(root), PluginManager())
    assert metadata.version == VERSION


@pytest.mark.parametrize("name", _commands())
def test_the_example_parses(name: str) -> None:
    example = (_commands()[name].epilog or "").splitlines()[1]
    program, *arguments = shlex.split(re.sub(r"\$\([^)]*\)", "1", example))
    assert (program, arguments[0]) == ("ptescope", name)
    assert whole_parser().parse_args(arguments).command == name


@pytest.mark.parametrize(("name", "action"), _ALL)
def test_help_texts_are_short_and_alike(name: str, action: argparse.Action) -> None:
    text = action.help or ""
    assert text, "every option has a help text"
    assert not text.endswith(".")
    assert text[0] in "-" or text[0].islower()


def _restricted() -> Iterator[object]:
    """The options that do not take any text."""
    for name, action in _options():
        if action.choices or not (action.type is None or isinstance(action.type, type)):
            yield pytest.param(name, action, id=f"{name} {_title(action)}")


@pytest.mark.parametrize("value", _NONSENSE)
@pytest.mark.parametrize(("name", "action"), list(_restricted()))
def test_a_bad_value_gives_a_message_that_says_what_the_option_takes(
    name: str, action: argparse.Action, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"{action.option_strings[-1]}={value}"] if action.option_strings else ["--", value]
    with pytest.raises(SystemExit) as stop:
        main([name, *typed])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"argument \S+: (takes .*, not '|invalid choice: .* \(choose from )", message)
    assert "\x1b" not in message


@pytest.mark.parametrize(("name", "action"), _ALL)
def test_no_option_has_a_type_whose_name_argparse_would_print(
    name: str, action: argparse.Action
) -> None:
    """A type that raises ValueError gives "invalid _bytes value"; Path never raises."""
    if isinstance(action.type, type):
        assert [action.type(value) for value in _NONSENSE]
