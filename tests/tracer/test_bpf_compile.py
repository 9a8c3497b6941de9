# SPDX-License-Identifier: GPL-2.0-only
"""Compiled BPF programs: kept in a file, compiled again if it is damaged, refused with a reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.errors import UnsupportedHostError
from tracer.bpf import compile as compiling
from tracer.bpf.object import BpfObject, Function, MapSpec

_NUMBERS = st.integers(0, 2**32 - 1)
_NAMES = st.text(max_size=20)
_OBJECTS = st.builds(
    BpfObject,
    maps=st.dictionaries(_NAMES, st.builds(MapSpec, *[_NUMBERS] * 5), max_size=4),
    functions=st.dictionaries(
        _NAMES,
        st.builds(
            Function,
            st.binary(max_size=64),
            st.lists(st.tuples(_NUMBERS, _NAMES), max_size=3).map(tuple),
        ),
        max_size=4,
    ),
)
_ONE = BpfObject(
    {"ring": MapSpec(27, 0, 0, 4096, 0)}, {"run": Function(b"\0" * 16, ((0, "ring"),))}
)


@given(_OBJECTS)
def test_an_object_survives_its_file(made: BpfObject) -> None:
    assert BpfObject.from_json(made.to_json()) == made


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"maps": {}, "functions": 3}', "\0", "NaN"])
def test_a_damaged_file_is_replaced(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTESCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(compiling, "_compile_elsewhere", lambda *_: _ONE)
    source = tmp_path / "x.c"
    source.write_text("int x;")
    assert compiling.compiled([source], {"A": 1}) == _ONE
    (file,) = (tmp_path / "bpf").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(text)
    compiling._compiled.cache_clear()
    assert compiling.compiled([source], {"A": 1}) == _ONE
    assert BpfObject.from_json(file.read_text()) == _ONE


def test_every_input_names_another_file(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int x;")
    first = compiling._digest((source,), ("A=1",))
    assert compiling._digest((source,), ("A=2",)) != first
    source.write_text("int y;")
    assert compiling._digest((source,), ("A=1",)) != first


def test_code_that_does_not_compile_gives_its_first_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTESCOPE_CACHE", str(tmp_path))
    source = tmp_path / "wrong.c"
    source.write_text("int wrong(void *context) { return no_such_name; }")
    with pytest.raises(UnsupportedHostError, match=r"wrong\.c:1.* error: .*no_such_name"):
        compiling.compiled([source], {})
