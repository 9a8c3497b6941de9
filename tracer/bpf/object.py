# SPDX-License-Identifier: GPL-2.0-only
"""Compiled BPF code, before it is loaded: plain data that a file can hold."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import NamedTuple, Self

__all__ = ("BpfObject", "Function", "MapSpec")


class MapSpec(NamedTuple):
    """What BPF_MAP_CREATE needs of a map.

    Attributes:
        type: enum bpf_map_type (include/uapi/linux/bpf.h).
        key_bytes: size of a key.
        value_bytes: size of a value.
        entries: the most entries; of a ring, its bytes.
        flags: BPF_F_ flags.
    """

    type: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


class Function(NamedTuple):
    """The code of one BPF function.

    Attributes:
        code: its instructions, 8 bytes each.
        maps: the byte offsets of instructions that load the address of a map, and its name.
    """

    code: bytes
    maps: tuple[tuple[int, str], ...]


class BpfObject(NamedTuple):
    """The maps and the functions of one program, by name."""

    maps: Mapping[str, MapSpec]
    functions: Mapping[str, Function]

    def to_json(self) -> str:
        """The object as text."""
        return json.dumps(
            {
                "maps": self.maps,
                "functions": {
                    name: [b64encode(function.code).decode(), function.maps]
                    for name, function in self.functions.items()
                },
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The object of `to_json`.

        Raises:
            ValueError: the text is not from there.
        """
        try:
            data = json.loads(text)
            return cls(
                maps={name: MapSpec(*numbers) for name, numbers in data["maps"].items()},
                functions={
                    name: Function(b64decode(code), tuple((at, used) for at, used in maps))
                    for name, (code, maps) in data["functions"].items()
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no BPF object: {error!r}") from error
