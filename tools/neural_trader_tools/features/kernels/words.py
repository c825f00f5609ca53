"""What kernels say to the compiler that Python has no words for: addresses, and four numbers at a time."""

import importlib
from collections.abc import Callable
from typing import Any, cast

import numba
from numba.core import cgutils
from numba.extending import intrinsic

from neural_trader_tools.features.compiled import Floats, jit

ir: Any = importlib.import_module("llvmlite.ir")  # no stubs
types: Any = cast(Any, numba).types
building: Any = cast(Any, cgutils)


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast("Callable[..., Any]", intrinsic(function))


@_intrinsic
def pointer(_: Any, address: Any) -> Any:
    """The numbers at an address, which is how the compiler learns that nothing wraps around."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(address), generate


@_intrinsic
def shifted(_: Any, column: Any, place: Any) -> Any:
    """A column from a place on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.gep(*[values[0], [values[1]]])

    return column(column, place), generate


@_intrinsic
def apart(_: Any, fresh: Any, old: Any, place: Any, count: Any, middle: Any) -> Any:
    """Distances from `middle` of `count` numbers, a multiple of four, summed by their place modulo four.

    Those before `place` are in `fresh`, the others in `old`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        fresh, old, place, count, middle = values
        double, whole, kind = ir.DoubleType(), ir.IntType(32), count.type
        vector, places = ir.VectorType(double, 4), ir.VectorType(kind, 4)

        def broad(value: Any, into: Any) -> Any:
            one = builder.insert_element(ir.Constant(into, ir.Undefined), value, ir.Constant(whole, 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(whole, 4), [0] * 4))

        def four(numbers: Any, j: Any) -> Any:
            load = builder.load(builder.bitcast(builder.gep(numbers, [j]), vector.as_pointer()))
            load.align = 8
            return load

        size = building.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), "llvm.fabs.v4f64"
        )
        center, limit = broad(middle, vector), broad(place, places)
        sums = building.alloca_once_value(builder, ir.Constant(vector, [0.0] * 4))
        with building.for_range_slice(
            builder, ir.Constant(kind, 0), count, ir.Constant(kind, 4), inc=True
        ) as (j, _):
            here = builder.add(broad(j, places), ir.Constant(places, [0, 1, 2, 3]))
            numbers = builder.select(builder.icmp_signed("<", here, limit), four(fresh, j), four(old, j))
            far = builder.call(size, [builder.fsub(numbers, center)])
            builder.store(builder.fadd(builder.load(sums), far), sums)
        done = builder.load(sums)
        parts = [builder.extract_element(done, ir.Constant(whole, k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.float64, 4)(fresh, old, place, count, middle), generate


@jit
def clear(column: Floats, start: int, stop: int) -> int:
    """The first bar from `start` on that is not a plain number (nor a huge one), or `stop`."""
    i = start
    while i < stop:
        end = min(i + 1024, stop)
        good = 0
        for j in range(i, end):
            good += 1 if abs(column[j]) <= 1e300 else 0
        if good < end - i:
            while abs(column[i]) <= 1e300:
                i += 1
            return i
        i = end
    return stop
