# SPDX-License-Identifier: GPL-2.0-only
"""How compiled functions see `State`: as a pointer to the addresses and lengths of its arrays.

A call of a compiled function then passes one word. As a tuple, a State takes sixty, which
costs time at every call and two thirds of the compiler's time.

The words are constant while the State exists, because longer arrays make a new State. So the
compiler may load them once and keep them (invariant.load).

There is a type for each number of entries of a PTE page. Its `SHAPE` is constants of the machine
code, so each geometry has machine code of its own, and arithmetic on addresses costs the same as
with constants in the sources.
"""

from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.imputils import lower_getattr_generic
from numba.core.types import Type
from numba.core.typing.templates import AttributeTemplate
from numba.core.typing.typeof import typeof_impl
from numba.extending import infer_getattr

from shadow.geometry import MODELLED
from shadow.table.state import SHAPE, HugePages, State, new_state

__all__ = ()

_WORD = 8
_WORDS_EACH = 2


class _Field(NamedTuple):
    """One array of a State.

    Attributes:
        place: its number in `State.words`.
        type: numba's type of it.
        inner: the lengths of its dimensions after the first.
        itemsize: bytes of an element.
    """

    place: int
    type: Any
    inner: tuple[int, ...]
    itemsize: int


@cache
def _fields(entries: int) -> dict[str, _Field]:
    names = [each.name for each in fields(State) if each.init]
    arrays = _example(entries).arrays()
    return {
        name: _Field(place, numba.typeof(array), array.shape[1:], array.itemsize)
        for place, (name, array) in enumerate(zip(names, arrays, strict=True))
    }


@cache
def _example(entries: int) -> State:
    """A State with so many entries a PTE page."""
    geometry = next(each for each in MODELLED if each.entries == entries)
    return new_state(geometry, 0, HugePages())


class _StateType(Type):
    """The type of a `State` with so many entries a PTE page."""

    def __init__(self, entries: int) -> None:
        super().__init__(f"State({entries})")
        self.entries = entries


@cache
def _type(entries: int) -> _StateType:
    return _StateType(entries)


@typeof_impl.register(State)
def _typeof(state: State, _context: object) -> _StateType:
    return _type(state.entries)


@register_default(_StateType)
class _StateModel(models.PrimitiveModel):
    """A pointer."""

    def __init__(self, manager: object, type_: _StateType) -> None:
        super().__init__(manager, type_, ir.IntType(8).as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):
    """The types of a State's arrays, and of its `SHAPE`."""

    key = _StateType

    def generic_resolve(self, state: _StateType, name: str) -> Any:  # type: ignore[override]
        """The type of one; None if there is none of that name."""
        if name in SHAPE:
            return numba.int64
        array_field = _fields(state.entries).get(name)
        return array_field and array_field.type


@lower_getattr_generic(_StateType)
def _attribute(context: Any, builder: Any, type_: _StateType, state: Any, name: str) -> Any:
    """Build the description of an array: all but its address and length are constants."""
    word = ir.IntType(64)
    if name in SHAPE:
        return word(getattr(_example(type_.entries), name))
    array_field = _fields(type_.entries)[name]
    words = builder.bitcast(state, word.as_pointer())

    def load(number: int) -> Any:
        place = array_field.place * _WORDS_EACH + number
        loaded = builder.load(builder.gep(words, [word(place)]))
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    length = load(1)
    array = context.make_array(array_field.type)(context, builder)
    shape = [length, *(word(size) for size in array_field.inner)]
    strides = [
        word(array_field.itemsize * int(np.prod(array_field.inner[dimension:])))
        for dimension in range(len(shape))
    ]
    context.populate_array(
        array,
        data=builder.inttoptr(load(0), array.data.type),
        shape=shape,
        strides=strides,
        itemsize=word(array_field.itemsize),
        meminfo=None,
    )
    return array._getvalue()
