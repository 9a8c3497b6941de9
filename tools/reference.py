# SPDX-License-Identifier: GPL-2.0-only
"""Parts of docs/reference that are generated from the code, each as Markdown.

A page has a line `<!-- generated: NAME -->` in the place of the part NAME. `tools.site` fills it
in when it builds the site.
"""

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import IntEnum
from types import ModuleType
from typing import Any

from shadow import errors, events
from shadow.host_view import Cost, HostView
from shadow.json_schema import json_schema
from shadow.report.metrics import HostCollector
from shadow.trace import layout
from tracer.cli import whole_parser

__all__ = ("PARTS", "fill")

_MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.M)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    return "\n".join([_row(*head), "|---" * len(head) + "|", *(_row(*row) for row in rows)])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _member_docs(module: ModuleType, enum: type[IntEnum]) -> dict[str, str]:
    """The docstring below each member of an enum."""
    tree = ast.parse(inspect.getsource(module))
    (body,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == enum.__name__
    )
    found = {}
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        below = after.value if isinstance(after, ast.Expr) else None
        text = below.value if isinstance(below, ast.Constant) else ""
        found[node.targets[0].id] = _one_line(str(text))
    return found


def _members(module: ModuleType, enum: type[IntEnum]) -> str:
    docs = _member_docs(module, enum)
    rows = ((each.value, f"`{each.name.lower()}`", docs[each.name]) for each in enum)
    return _table(("number", "name", "meaning"), rows)


def _event_kinds() -> str:
    return _members(events, events.Kind)


def _trace_rows() -> str:
    return _members(layout, layout.Row)


def _event_columns() -> str:
    columns: dict[str, Any] = dict(events.EVENT.fields or {})
    rows = ((f"`{name}`", str(dtype), f"{at}") for name, (dtype, at, *_) in columns.items())
    return _table(("column", "type", "byte"), rows)


def _exit_statuses() -> str:
    family = [each for name in errors.__all__ if (each := getattr(errors, name))]
    rows: list[tuple[object, ...]] = [(0, "", "Success.")]
    rows += sorted(
        (each.status, f"`{each.__name__}`", _one_line((each.__doc__ or "").split("\n\n")[0]))
        for each in family
    )
    rows.append((130, "", "Ctrl-C interrupted a command that had nothing to report yet."))
    return _table(("status", "class", "meaning"), iter(rows))


def _options(
    parser: argparse.ArgumentParser, group: argparse._ArgumentGroup
) -> Iterator[tuple[object, ...]]:
    formatter = parser._get_formatter()
    for action in group._group_actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        value = ""
        if action.choices is not None:
            value = f" {{{','.join(map(str, action.choices))}}}"
        elif action.nargs != 0:
            value = f" {formatter._format_args(action, action.dest.upper())}"
        names = [f"`{name}{value}`" for name in action.option_strings]
        text = _one_line((action.help or "") % (vars(action) | {"prog": parser.prog}))
        yield ", ".join(names) or f"`{action.metavar or action.dest}`", text


def _commands() -> str:
    whole = whole_parser()
    (subparsers,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    parts = []
    for name, parser in subparsers.choices.items():
        usage = re.sub(r"\x1b\[[0-9;]*m", "", parser.format_usage()).removeprefix("usage: ")
        parts.append(f"## {name}\n\n{inspect.cleandoc(parser.description or '')}\n")
        wrapped = textwrap.fill(_one_line(usage), 96, subsequent_indent=" " * 4)
        parts.append(f"```text\n{wrapped}\n```\n")
        for group in parser._action_groups:
            if rows := list(_options(parser, group)):
                parts.append(f"**{(group.title or '').capitalize()}.** {group.description or ''}\n")
                parts.append(_table(("argument", "meaning"), iter(rows)) + "\n")
        example = (parser.epilog or "").partition("\n")[2].strip()
        parts.append(f"Example:\n\n```console\n# {example}\n```\n")
    return "\n".join(parts)


def _no_host() -> HostView:
    nothing = dict.fromkeys((field.name for field in fields(Cost)), 0)
    return HostView(0, "", "", "", 0, [], Cost(**nothing))  # type: ignore[arg-type]


def _metrics() -> str:
    families = HostCollector(_no_host, 1).collect()
    rows = (
        (
            f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
            family.type,
            " ".join(f"`{label}`" for label in getattr(family, "_labelnames", ())),
            family.documentation,
        )
        for family in families
    )
    return _table(("metric", "type", "labels", "meaning"), rows)


def _kind_of(schema: dict[str, Any]) -> str:
    """The type of a field, for readers."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind_of(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind_of(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind_of(schema['additionalProperties'])}"
    return str(schema["type"])


def _as_list(text: str) -> str:
    """A docstring with Google-style attributes as Markdown."""
    before, found, attributes = text.partition("Attributes:\n")
    if not found:
        return text
    rows = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.M)
    return before + "\n".join(f"- `{name}`: {_one_line(what)}" for name, what in rows)


def _schema_classes() -> str:
    parts = []
    definitions = json_schema()["$defs"]
    for name in ["Snapshot", *sorted(set(definitions) - {"Snapshot"})]:
        definition = definitions[name]
        rows = (
            (
                f"`{field}`",
                _kind_of(schema),
                "yes" if field in definition["required"] else "where there is one",
            )
            for field, schema in definition["properties"].items()
        )
        parts.append(f"### {name}\n\n{_as_list(definition['description'])}\n")
        parts.append(_table(("field", "type", "present"), rows) + "\n")
    return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "event-columns": _event_columns,
    "event-kinds": _event_kinds,
    "exit-statuses": _exit_statuses,
    "metrics": _metrics,
    "schema-classes": _schema_classes,
    "trace-rows": _trace_rows,
}
"""The generated parts, by the name that a page uses."""


def fill(markdown: str) -> str:
    """Fill in the generated parts of a page.

    Raises:
        KeyError: the page uses a name that no part has.
    """
    return _MARK.sub(lambda found: PARTS[found[1]](), markdown)
