"""Addresses: arrays and compiled functions as integers, which cost nothing to hand over.

Handing ten arrays to compiled code costs more than what it then does with them on one bar.
"""

import contextlib
from typing import Any, cast

from numba import extending, types
from numba.core import ccallback, cgutils, sigutils
from numba.np import arrayobj

from neural_trader_tools.engine.compiled import freshen

_numba: Any = cast("Any", types)
_arrays, _pack, _normal = (
    cast("Any", arrayobj).populate_array,
    cast("Any", cgutils).pack_array,
    cast("Any", sigutils).normalize_signature,
)


def _made(array: Any, lengths: int) -> Any:
    """Returns the type and the code of a function that makes an array of an address and its lengths.

    As `numba.carray` does, which numba compiles only where it counts references.
    """

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = target.make_array(array)(target, builder)
        width = target.get_constant(_numba.intp, 8)
        _arrays(
            made,
            data=builder.inttoptr(arguments[0], made.data.type),
            shape=_pack(builder, arguments[1:]),
            strides=_pack(builder, [builder.mul(width, arguments[2]), width] if lengths == 2 else [width]),
            itemsize=width,
            meminfo=None,
        )
        return made._getvalue()

    return array(_numba.int64, *[_numba.int64] * lengths), generate


def _floats(context: Any, address: Any, length: Any) -> Any:  # numba calls these with types, not with values
    return _made(_numba.Array(_numba.float64, 1, "C"), 1)


def _ints(context: Any, address: Any, length: Any) -> Any:
    return _made(_numba.Array(_numba.int64, 1, "C"), 1)


def _past_floats(context: Any, address: Any, length: Any) -> Any:
    return _made(_numba.Array(_numba.float64, 1, "C", readonly=True), 1)


def _past_ints(context: Any, address: Any, length: Any) -> Any:
    return _made(_numba.Array(_numba.int64, 1, "C", readonly=True), 1)


def _table(context: Any, address: Any, rows: Any, columns: Any) -> Any:
    return _made(_numba.Array(_numba.float64, 2, "C"), 2)


_intrinsic: Any = cast("Any", extending).intrinsic
floats_at, ints_at, table_at = _intrinsic(_floats), _intrinsic(_ints), _intrinsic(_table)
"""Called from compiled code: (address, length) or (address, rows, columns). Nothing is copied or kept."""

past_floats_at, past_ints_at = _intrinsic(_past_floats), _intrinsic(_past_ints)
"""The same, but whoever gets the array cannot write to it."""


def pointer_to(function: Any, integers: int) -> Any:
    """Returns a compiled function that takes integers and returns nothing, to be called by its address.

    So whoever calls it is compiled without it.
    """
    signature = _normal(_numba.void(*[_numba.int64] * integers))
    options: Any = {"_nrt": False, "error_model": "numpy"}
    callback: Any = ccallback.CFunc(function.py_func, signature, {}, options)
    with contextlib.suppress(RuntimeError):  # nowhere to write the cache
        callback.enable_caching()
        freshen(callback, function.py_func)
    callback.compile()
    return callback
