# SPDX-License-Identifier: GPL-2.0-only
"""The stacks of a snapshot as a tree, for the flame graph."""

from typing import Any

from shadow.snapshot import Snapshot
from shadow.stack_weights import Event, weigh

__all__ = ("flame_tree",)


def flame_tree(snapshot: Snapshot) -> dict[str, Any] | None:
    """The empty PTE pages by the code that emptied them; None: there are no stacks.

    Returns:
        {name, value, children} from the process down to the call; a value includes its children.
    """
    if snapshot.stacks is None:
        return None
    root = _node(f"{snapshot.process.comm} ({snapshot.process.pid})")
    nodes: dict[tuple[str, ...], dict[str, Any]] = {(): root}
    for stack in weigh(snapshot, Event.EMPTIED):
        path: tuple[str, ...] = ()
        root["value"] += stack.pages
        for name in stack.names()[1:]:  # the first name is the process
            parent, path = nodes[path], (*path, name)
            if path not in nodes:
                nodes[path] = _node(name)
                parent["children"].append(nodes[path])
            nodes[path]["value"] += stack.pages
    return root


def _node(name: str) -> dict[str, Any]:
    return {"name": name, "value": 0, "children": []}
