# SPDX-License-Identifier: GPL-2.0-only
"""Generates the JSON Schema of schema 1 from the classes of the documents.

`python -m shadow.json_schema` writes `shadow/schema-1.json`; run it after a change to these
classes. Consumers must accept unknown fields, because later versions of ptescope may add fields
to a schema. They never rename one.
"""

import dataclasses
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

from shadow.advice.finding import Finding
from shadow.family import Family
from shadow.snapshot import SCHEMA, Snapshot

__all__ = ("FILE", "json_schema", "published")

FILE = Path(__file__).with_name(f"schema-{SCHEMA}.json")
"""The published schema."""

_NOT_IN_JSON: dict[type, set[str]] = {Snapshot: {"pages"}}
"""Fields of the classes that are not in documents."""
_OPTIONAL: dict[type, set[str]] = {
    Snapshot: {"empty_slots", "empty_slot_vmas", "reading", "mappings", "origins", "stacks"}
}
"""Fields that a document leaves out if they are None."""
_PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
}
_RANGE = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 2,
    "maxItems": 2,
    "description": "The minimum and the maximum.",
}
_EFFECT = {
    "type": "object",
    "description": "The saving of a change once the process is idle.",
    "properties": {
        "pte_pages": _RANGE,
        "upper_pages": _RANGE,
        "bytes": _RANGE,
        "basis": {"type": "string"},
    },
    "required": ["pte_pages", "bytes", "basis"],
}
"""The schema of `Effect.as_json`, which differs from the fields of the class."""


class _Maker:
    """Collects the definitions of all types that a schema uses."""

    def __init__(self, *, closed: bool) -> None:
        self.definitions: dict[str, dict[str, Any]] = {"Effect": self._sealed(_EFFECT, closed)}
        self._closed = closed

    @staticmethod
    def _sealed(definition: dict[str, Any], closed: bool) -> dict[str, Any]:
        return definition | {"additionalProperties": False} if closed else definition

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of a type."""
        if hint in _PLAIN:
            return _PLAIN[hint]
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            return {"anyOf": [self.of(each) for each in arguments]}
        if origin is list:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self._reference(hint)
        raise TypeError(f"{hint} is not supported in schema {SCHEMA}")

    def _reference(self, owner: type) -> dict[str, Any]:
        if owner.__name__ not in self.definitions:
            self.definitions[owner.__name__] = {}  # the class may refer to itself
            self.definitions[owner.__name__] = self._define(owner)
        return {"$ref": f"#/$defs/{owner.__name__}"}

    def _define(self, owner: type) -> dict[str, Any]:
        hints = typing.get_type_hints(owner)
        names = [each.name for each in dataclasses.fields(owner)]
        names = [name for name in names if name not in _NOT_IN_JSON.get(owner, ())]
        optional = _OPTIONAL.get(owner, set())
        definition = {
            "type": "object",
            "description": inspect.cleandoc(owner.__doc__ or ""),
            "properties": {name: self.of(hints[name]) for name in names},
            "required": [name for name in names if name not in optional],
        }
        return self._sealed(definition, self._closed)


def json_schema(*, closed: bool = False) -> dict[str, Any]:
    """The schema of the document that every `--json` prints (JSON Schema, draft 2020-12).

    Args:
        closed: whether to reject fields that the schema does not define.
    """
    maker = _Maker(closed=closed)
    process = maker.of(Snapshot)
    assert process == {"$ref": "#/$defs/Snapshot"}
    family = maker.of(Family)
    for name in ("Snapshot", "Family"):
        maker.definitions[name]["properties"] |= {
            "advice": {"type": "array", "items": maker.of(Finding)},
            "advice_limits": {"type": "array", "items": {"type": "string"}},
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ptescope, schema {SCHEMA}",
        "type": "object",
        "properties": {
            "schema": {"const": SCHEMA},
            "processes": {"type": "array", "items": process},
            "families": {"type": "array", "items": family},
        },
        "required": ["schema", "processes"],
        "$defs": maker.definitions,
    }


def published() -> str:
    """The text of the published schema, `FILE`."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(published())
