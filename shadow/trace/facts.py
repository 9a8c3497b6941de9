# SPDX-License-Identifier: GPL-2.0-only
"""Decodes the facts in a trace, and checks the types and ranges of their values.

msgspec checks every field against the type hints of `shadow.records.Facts` and of the
dataclasses in it, so it also checks fields added there later. It ignores unknown fields,
because later versions may add some.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from shadow.mapping_names import MappingNames
from shadow.policy import Policy
from shadow.records import Facts
from shadow.snapshot import METHODS, SEEDS

__all__ = ("MOST", "decode_facts", "decode_names")

MOST = 1 << 62
"""All counts, sizes and times (ns: 146 years) of a trace are smaller."""
_MOST_BYTES = 4 << 20
_PIDS = range(1, (1 << 22) + 1)
_LONGEST_NAME = 64
_MOST_THREADS = 1 << 16
_decode = msgspec.json.Decoder(Facts).decode
_decode_names = msgspec.json.Decoder(MappingNames).decode
_MOST_NAME_BYTES = 32 << 20
"""Some 65,530 mappings of files with paths of 500 characters each."""


def _numbers(data: Any) -> Iterator[int | float]:
    """All numbers in data: counts, sizes and times."""
    if isinstance(data, int | float):
        yield data
    elif is_dataclass(data):
        for field in fields(data):
            yield from _numbers(getattr(data, field.name))
    elif isinstance(data, dict):
        yield from _numbers(list(data.values()))
    elif isinstance(data, list | tuple):
        for part in data:
            yield from _numbers(part)


def _problem(facts: Facts) -> str | None:
    """What is impossible in these facts; None: nothing."""
    process, kernel, huge, audit = facts.process, facts.kernel, facts.huge, facts.audit
    # Each size of multi-size THP is smaller than a PMD maps.
    sizes = kernel.geometry.entries
    checks = (
        (all(0 <= number < MOST for number in _numbers(facts)), "a number out of range"),
        (process.pid in _PIDS, f"a process {process.pid}"),
        (len(process.comm) <= _LONGEST_NAME, f"a name of {len(process.comm)} characters"),
        (kernel.seed in SEEDS, "a seed of an unknown kind"),
        (audit.method in METHODS, "an audit by an unknown method"),
        (not audit.runs or audit.method != "none", "audits without a method"),
        (huge.thp in (0, 1, 2), f"transparent huge pages set to {huge.thp}"),
        (len(facts.threads) <= _MOST_THREADS, f"names of {len(facts.threads):,} threads"),
        (all(tid in _PIDS for tid in facts.threads), "a thread of an impossible number"),
        (all(len(name) <= _LONGEST_NAME for name in facts.threads.values()), "an endless name"),
        (max(huge.always, huge.madvise) < sizes, "huge pages of impossible sizes"),
    )
    return next((problem for good, problem in checks if not good), None)


def decode_facts(text: bytes) -> Facts:
    """Decode the facts in a payload.

    Raises:
        ValueError: the facts are invalid.
        RecursionError: the JSON is nested too deeply.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"facts of {len(text):,} bytes")
    facts = _decode(text)
    Policy.from_label(facts.kernel.policy)
    problem = _problem(facts)
    if problem:
        raise ValueError(problem)
    return facts


def decode_names(text: bytes) -> MappingNames:
    """The names of mappings in a payload.

    Raises:
        ValueError: they are none.
        RecursionError: likewise.
    """
    if len(text) > _MOST_NAME_BYTES:
        raise ValueError(f"names of mappings of {len(text):,} bytes")
    names = _decode_names(text)
    numbers = [names.heap, *names.files, *names.labels]
    numbers += [file.inode for file in names.files.values()]
    if any(not 0 <= number < MOST * 4 for number in numbers):
        raise ValueError("names of mappings with a number out of range")
    return names
