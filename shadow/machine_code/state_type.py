# SPDX-License-Identifier: GPL-2.0-only
"""How compiled functions see `State`: as a pointer to the addresses and lengths of its arrays.

A call of a compiled function then passes one word. As a tuple, a State takes sixty, which
costs time at every call and two thirds of the compiler's time.

The words are constant while the State exists, because longer arrays make a new State. So the
compiler may load them once and keep them (invariant.load).
"""

from dataclasses import fields
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

from shadow.table.state import HugePages, State, new_state

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


def _fields() -> dict[str, _Field]:
    names = [each.name for each in fields(State) if each.init]
    arrays = new_state(4, 0, HugePages()).arrays()
    return {
        name: _Field(place, numba.typeof(array), array.shape[1:], array.itemsize)
        for place, (name, array) in enumerate(zip(names, arrays, strict=True))
    }


_FIELDS = _fields()


class _StateType(Type):
    """The type of a `State`."""

    def __init__(self) -> None:
        super().__init__("State")


_STATE = _StateType()


@typeof_impl.register(State)
def _typeof(_state: State, _context: object) -> _StateType:
    return _STATE


@register_default(_StateType)
class _StateModel(models.PrimitiveModel):
    """A pointer."""

    def __init__(self, manager: object, type_: _StateType) -> None:
        super().__init__(manager, type_, ir.IntType(8).as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):
    """The types of a State's arrays."""

    key = _StateType

    def generic_resolve(self, _state: _StateType, name: str) -> Any:  # type: ignore[override]
        """The type of one; None if there is none of that name."""
        return _FIELDS[name].type if name in _FIELDS else None


@lower_getattr_generic(_StateType)
def _attribute(context: Any, builder: Any, _type: _StateType, state: Any, name: str) -> Any:
    """Build the description of an array: all but its address and length are constants."""
    array_field = _FIELDS[name]
    word = ir.IntType(64)
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
