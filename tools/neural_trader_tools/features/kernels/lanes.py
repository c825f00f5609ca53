"""Lanes: sliding sums of several stretches side by side, in vector instructions.

A sum that slides waits for its own last addition, four times as long as the processor needs to begin the
next. Sums that begin anew every `REFRESH` bars know nothing of each other, so eight of them slide at once,
one in each lane of a vector: the same additions in the same order, and the same bits.
"""

from typing import Any, Final, cast

from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]  # comes with numba, untyped
from numba import extending, types

LANES: Final = 8


def _slide(
    context: Any, values: Any, out: Any, place: Any, apart: Any, window: Any, divisor: Any, sums: Any
) -> Any:
    """Writes code for `LANES` bars of each of `LANES` stretches."""
    vector = ir.VectorType(ir.DoubleType(), LANES)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        inputs, outputs, first, step, back, by, array = arguments
        ends = target.make_array(signature.args[-1])(target, builder, array).data

        def at(base: Any, index: Any) -> Any:
            return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

        places = [first]
        for _ in range(LANES - 1):
            places.append(builder.add(places[-1], step))
        come = turned(builder, [builder.load(at(inputs, one), align=8) for one in places])
        gone = turned(builder, [builder.load(at(inputs, builder.sub(one, back)), align=8) for one in places])
        total = builder.load(at(ends, first.type(0)), align=8)
        totals: list[Any] = []
        for new, old in zip(come, gone, strict=True):
            total = builder.fsub(builder.fadd(total, new), old)
            totals.append(total)
        builder.store(total, at(ends, first.type(0)), align=8)
        one = builder.insert_element(ir.Constant(vector, cast("Any", ir).Undefined), by, ir.IntType(32)(0))
        every = builder.shuffle_vector(
            one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        )
        for lane, row in zip(places, turned(builder, totals), strict=True):
            builder.store(builder.fdiv(row, every), at(outputs, lane), align=8)
        return target.get_dummy_value()

    return cast("Any", types).void(values, out, place, apart, window, divisor, sums), generate


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Returns the columns of a square of vectors: in each step, halves of blocks change places."""
    kind = ir.VectorType(ir.IntType(32), LANES)
    width = LANES // 2
    while width:
        moved = list(rows)
        for row in range(LANES):
            if row & width == 0:
                low = [k if k & width == 0 else LANES + k - width for k in range(LANES)]
                high = [k + width if k & width == 0 else LANES + k for k in range(LANES)]
                pair = rows[row], rows[row + width]
                moved[row] = builder.shuffle_vector(*pair, ir.Constant(kind, low))
                moved[row + width] = builder.shuffle_vector(*pair, ir.Constant(kind, high))
        rows, width = moved, width // 2
    return rows


slide: Any = cast("Any", extending).intrinsic(_slide)
"""`slide(values, out, place, apart, window, divisor, sums)`: `out[i] = total / divisor` for the `LANES` bars
from `place` on, and as many from each of the `LANES - 1` places that follow `apart` bars from one another;
`total = total + values[i] - values[i - window]`, and `sums`, an array, holds the totals before and after.
Values and out are addresses of float64; all numbers but the divisor are int64."""
