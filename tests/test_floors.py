# SPDX-License-Identifier: GPL-2.0-only
"""Each part of `tracer` imports only from its own floor or those below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_FLOORS = (
    {"tracer", "tracer.__main__"},
    {"tracer.cli", "tracer.standard_streams"},
    {"tracer.commands"},
    {"tracer.daemon"},
    {"tracer.follow"},
    {"tracer.census"},
    {"tracer.stacks"},
    {"tracer.probes"},
    {"tracer.process"},
    {"tracer.allocator"},
    {"tracer.bpf"},
    {"tracer.kernel"},
    {
        "tracer.arch",
        "tracer.capabilities",
        "tracer.page_size",
        "tracer.procfs",
        "tracer.system_packages",
        "tracer.terminal",
    },
)
"""From the top down; docs/architecture.md describes them."""


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            name = path.relative_to(_ROOT).with_suffix("").as_posix().replace("/", ".")
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def _imports(tree: ast.Module) -> Iterator[str]:
    """Full names of the modules and objects that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _floor(name: str) -> int:
    room = ".".join(name.split(".")[:2])
    found = [number for number, rooms in enumerate(_FLOORS) if room in rooms]
    assert found, f"{name} stands on no floor: add its room to _FLOORS"
    return found[0]


_TRACER = dict(_modules("tracer"))


@pytest.mark.parametrize("name", _TRACER)
def test_a_room_uses_only_what_lies_below(name: str) -> None:
    used = [each for each in _imports(_TRACER[name]) if each.startswith("tracer.")]
    above = [each for each in used if _floor(each) < _floor(name)]
    assert not above, f"{name} imports from a floor above its own"


def test_every_floor_has_its_rooms() -> None:
    rooms = {".".join(name.split(".")[:2]) for name, _ in _modules("tracer")}
    assert rooms == set().union(*_FLOORS)


def test_the_shadow_knows_no_live_host() -> None:
    for name, tree in _modules("shadow"):
        assert not [each for each in _imports(tree) if each.startswith(("tracer", "bcc"))], name


def test_nothing_that_ships_imports_tests_or_tools() -> None:
    for name, tree in _modules("shadow", "tracer"):
        assert not [each for each in _imports(tree) if each.startswith(("tests", "tools"))], name
    for name, tree in _modules("tools"):
        assert not [each for each in _imports(tree) if each.startswith("tests")], name


def test_one_module_imports_bcc() -> None:
    named = [
        name
        for name, tree in _modules("shadow", "tracer", "tools")
        if "bcc" in _imports(tree) or "import_module('bcc')" in ast.unparse(tree)
    ]
    assert named == ["tracer.bpf.compiler"]
