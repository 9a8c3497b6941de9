# SPDX-License-Identifier: GPL-2.0-only
"""The published JSON Schema matches the classes, and documents match the schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shadow.json_schema import FILE, json_schema, published
from tests.shadow.trace.traces import write_trace
from tracer.cli import main

_CLOSED = jsonschema.Draft202012Validator(json_schema(closed=True))
"""Refuses fields that the schema lacks, too."""


def test_the_published_schema_is_that_of_the_classes() -> None:
    assert FILE.read_text() == published(), "run: python -m shadow.json_schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(FILE.read_text()))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_trace(tmp_path / "t.arrows", pids=(7, 8))
    return tmp_path / "t.arrows"


@pytest.mark.parametrize("command", [["replay"], ["replay", "--slots"], ["advise"]])
def test_documents_of_traces_are_valid(
    command: list[str], trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json", str(trace)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["processes"]) == 2
    _CLOSED.validate(document)


def _spoilt(document: dict[str, Any], *path: str, value: object) -> dict[str, Any]:
    at = document["processes"][0]
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("now", "empty"), "16"),
        (("now", "unknown"), 1),
        (("policies", "none"), None),
        (("window",), {}),
        (("audit", "causes"), {"file mapping": "1"}),
    ],
)
def test_a_wrong_document_is_refused(
    path: tuple[str, ...], value: object, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "--json", str(trace)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not _CLOSED.is_valid(_spoilt(document, *path, value=value))
