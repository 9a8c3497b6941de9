# SPDX-License-Identifier: GPL-2.0-only
"""A TOML file that sets the options of a command; flags on the command line win.

A key is the long name of an option without its dashes: `min-vmpte = "4M"`. A value is checked like
the one of the flag. An option that may be repeated takes a list.
"""

import argparse
import textwrap
import tomllib
from argparse import ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from shadow.errors import UsageError

__all__ = ("ConfigFile",)

_WIDTH = 99


class ConfigFile:
    """The options of one parser that a file may set.

    It takes the defaults away from the parser, so that parsed arguments have given flags only;
    `complete` adds the rest.

    Args:
        parser: the parser of the command, with all its options.
        excluded: the long names of options that a file may not set.
    """

    def __init__(self, parser: ArgumentParser, excluded: Collection[str]) -> None:
        self._options: dict[str, argparse.Action] = {}
        self._groups: list[tuple[str, list[str]]] = []
        self._defaults: dict[str, Any] = {}
        for group in parser._action_groups:
            names = []
            for action in group._group_actions:
                if action.dest == "help":
                    continue
                self._defaults[action.dest] = _checked(action, action.default)
                action.default = argparse.SUPPRESS
                name = action.option_strings[-1].removeprefix("--")
                if name not in excluded:
                    self._options[name] = action
                    names.append(name)
            if names:
                self._groups.append((group.title or "", names))

    def complete(self, given: Namespace, path: Path | None) -> Namespace:
        """The given flags, completed by the file and then by the defaults.

        Args:
            given: the parsed arguments.
            path: the file; None: there is none.

        Raises:
            UsageError: the file cannot be read, or has an unknown key or a bad value.
        """
        found = self._read(path) if path else {}
        return Namespace(**{**self._defaults, **found, **vars(given)})

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            with path.open("rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UsageError(f"{path} is no valid TOML: {error}.") from error
        return dict(self._converted(path, values))

    def _converted(self, path: Path, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            action = self._options.get(name)
            if action is None:
                near = get_close_matches(name, self._options, 1)
                hint = f"did you mean {near[0]}?" if near else f"use {', '.join(self._options)}."
                raise UsageError(f"{path} has an unknown option {name!a}; {hint}")
            try:
                yield action.dest, _value(action, value)
            except (ArgumentError, ArgumentTypeError, ValueError) as error:
                raise UsageError(f"{path}: {name} {error}.") from error

    def template(self) -> str:
        """A file with every option, its help, and its default, all commented out."""
        lines = []
        for title, names in self._groups:
            lines += ["", f"# --- {title} ---"]
            for name in names:
                action = self._options[name]
                lines += ["", *textwrap.wrap(action.help or "", _WIDTH - 2, break_on_hyphens=False)]
                lines.append(f"{name} = {_example(action)}")
        body = "\n".join(f"# {line}" if line and line[0] != "#" else line for line in lines)
        return body.strip("\n")


def _repeats(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction)


def _is_switch(action: argparse.Action) -> bool:
    return isinstance(action, argparse._StoreTrueAction)


def _checked(action: argparse.Action, text: Any) -> Any:
    """A value as the type of its option makes it; text only, as argparse does with defaults."""
    return action.type(text) if callable(action.type) and isinstance(text, str) else text


def _value(action: argparse.Action, value: object) -> Any:
    """The value of an option from that of a key.

    Raises:
        ArgumentTypeError: the value does not suit the option.
    """
    if _is_switch(action):
        if not isinstance(value, bool):
            raise ArgumentTypeError("takes true or false")
        return value
    if _repeats(action):
        values = value if isinstance(value, list) else [value]
        return [_checked(action, _text(each)) for each in values]
    return _checked(action, _text(value))


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ArgumentTypeError("takes a string or a number")
    return str(value)


def _example(action: argparse.Action) -> str:
    """The value of an option in the template: what its help names as the default, or a pattern."""
    if _is_switch(action):
        return "false"
    if _repeats(action):
        return f'["{action.metavar}"]'
    _, _, default = (action.help or "").partition("(default: ")
    text = default.partition(")")[0]
    if not text or " " in text:  # a default in words
        text = str(action.metavar)
    return text if text.isdigit() else f'"{text}"'
