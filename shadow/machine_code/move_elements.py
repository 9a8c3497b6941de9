# SPDX-License-Identifier: GPL-2.0-only
"""`shadow.table.move` in machine code."""

from typing import Any

from numba.core import types
from numba.core.cgutils import raw_memmove
from numba.extending import intrinsic

__all__ = ("move_elements",)


@intrinsic
def move_elements(_context: Any, array: Any, to: Any, origin: Any, count: Any) -> Any:  # noqa: ARG001
    """`move` of a one-dimensional contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held, to, origin, count = arguments
        view = context.make_array(signature.args[0])(context, builder, held)
        places = [builder.gep(view.data, [index]) for index in (to, origin)]
        destination, source = places
        raw_memmove(builder, destination, source, count, view.itemsize)
        return context.get_dummy_value()

    if not isinstance(array, types.Array) or array.ndim != 1 or array.layout != "C":
        return None
    return types.void(array, types.intp, types.intp, types.intp), generate
