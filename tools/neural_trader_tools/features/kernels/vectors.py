"""Vectors: code for eight stretches of a column side by side, written from plain arithmetic.

A recurrence waits for its own last value, bar after bar, which leaves a processor idle. Here a vector holds
the same bar of eight stretches, each of which does the very operations that it would do alone: the same bits.

    @scan(1)
    def ema(code):
        smoothing = 2.0 / (code.param(0) + 1.0)
        for (price,) in code.bars(1):
            code.state[0] += (price - code.state[0]) * smoothing
            code.out((0,), lambda average: (average,), code.state[0])

runs once, while machine code is made: arithmetic on vectors writes instructions. Bars come and go in squares
of eight by eight, turned in registers, because memory holds the stretches one after the other.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Self, cast

from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]  # comes with numba, untyped
from numba import extending, types
from numba.core import cgutils

from neural_trader_tools.features.kernels.lanes import LANES, turned

IR: Final[Any] = ir
BUILDING: Final[Any] = cgutils
DOUBLE: Final[Any] = IR.DoubleType()
WIDE: Final[Any] = IR.VectorType(DOUBLE, LANES)
LONG: Final[Any] = IR.IntType(64)
SHORT: Final[Any] = IR.IntType(32)


class Vector:
    """Eight numbers in code that is being written."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def made(self, value: Any) -> Self:
        """Another vector of the same code, of what the builder returned."""
        return type(self)(self.builder, value)

    def filled(self, number: float) -> Self:
        """The same number in all lanes."""
        return self.made(wide(number))

    def __add__(self, other: Self | float) -> Self:
        return self.made(self.builder.fadd(self.value, wide(other)))

    def __sub__(self, other: Self | float) -> Self:
        return self.made(self.builder.fsub(self.value, wide(other)))

    def __mul__(self, other: Self | float) -> Self:
        return self.made(self.builder.fmul(self.value, wide(other)))

    def __truediv__(self, other: Self | float) -> Self:
        return self.made(self.builder.fdiv(self.value, wide(other)))

    def __rsub__(self, other: float) -> Self:
        return self.made(self.builder.fsub(wide(other), self.value))

    def __rmul__(self, other: float) -> Self:
        return self.made(self.builder.fmul(wide(other), self.value))

    def __rtruediv__(self, other: float) -> Self:
        return self.made(self.builder.fdiv(wide(other), self.value))

    def __neg__(self) -> Self:
        return self.made(self.builder.fneg(self.value))

    def __abs__(self) -> Self:
        return self._called("fabs")

    def root(self) -> Self:
        """The square root."""
        return self._called("sqrt")

    def above(self, other: Self | float) -> Any:
        """Where it is greater; nowhere where one of the two is NaN."""
        return self.builder.fcmp_ordered(">", self.value, wide(other))

    def equals(self, other: Self | float) -> Any:
        """Where the two are equal; nowhere where one of them is NaN."""
        return self.builder.fcmp_ordered("==", self.value, wide(other))

    def where(self, mask: Any, other: Self | float) -> Self:
        """Itself where the mask says so, elsewhere the other."""
        return self.made(self.builder.select(mask, self.value, wide(other)))

    def or_more(self, other: Self | float) -> Self:
        """The greater of the two, which are numbers."""
        return self.where(self.above(other), other)

    def _called(self, name: str) -> Self:
        kind = IR.FunctionType(WIDE, [WIDE])
        function = BUILDING.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return self.made(self.builder.call(function, [self.value]))


def wide(number: Vector | float) -> Any:
    """The value of a vector, or of one that has the same number in all lanes."""
    return number.value if isinstance(number, Vector) else IR.Constant(WIDE, [float(number)] * LANES)


Late = tuple[Callable[..., tuple[Vector, ...]], tuple[Vector, ...]]


class State:
    """The vectors that go from bar to bar, by slot."""

    def __init__(self, builder: Any, table: Any, slots: int) -> None:
        self._builder, self._table = builder, table
        self._places: list[Any] = [BUILDING.alloca_once(builder, WIDE) for _ in range(slots)]
        for slot, place in enumerate(self._places):
            builder.store(self.entering(slot).value, place)

    def __getitem__(self, slot: int) -> Vector:
        return Vector(self._builder, self._builder.load(self._places[slot]))

    def __setitem__(self, slot: int, vector: Vector) -> None:
        self._builder.store(vector.value, self._places[slot])

    def entering(self, slot: int) -> Vector:
        """What the table has for a slot, or beyond the slots for what else the step is told."""
        return Vector(self._builder, self._builder.load(self._row(slot), align=8))

    def leave(self) -> None:
        """Writes the slots back to the table."""
        for slot, place in enumerate(self._places):
            self._builder.store(self._builder.load(place), self._row(slot), align=8)

    def _row(self, slot: int) -> Any:
        place = self._builder.gep(self._table, [LONG(slot * LANES)])
        return self._builder.bitcast(place, WIDE.as_pointer())


class Code:
    """What a step is written with.

    Attributes:
        state: Vectors that go from bar to bar, by slot; they come from the table `states`, and go back there.
        is_last: In the bars: whether they are the last eight (the same for all lanes).
        bar: In the bars: which of the eight.
    """

    def __init__(self, builder: Any, arguments: list[Any], slots: int) -> None:
        self._builder = builder
        (self._first, self._blocks, self._stretch, self._params, states, self._columns, self._outs,
         self._out_first, self._out_stretch) = arguments  # fmt: skip
        self.state = State(builder, states, slots + 1)
        self._wholeness = slots
        self._late: dict[tuple[int, ...], list[Late]] = {}
        self._index: Any = None
        self.is_last: Any = None
        self.bar = 0

    def param(self, place: int) -> Vector:
        """A parameter; before the bars."""
        builder = self._builder
        number = builder.load(builder.gep(self._params, [LONG(place)]))
        one = builder.insert_element(IR.Constant(WIDE, IR.Undefined), number, SHORT(0))
        every = IR.Constant(IR.VectorType(SHORT, LANES), [0] * LANES)
        return Vector(builder, builder.shuffle_vector(one, one, every))

    def bars(self, columns: int) -> Iterator[list[Vector]]:
        """The bars of the first columns, one after the other."""
        builder = self._builder
        bases = [self._address(self._columns, column) for column in range(columns)]
        last = builder.sub(self._blocks, LONG(1))
        with BUILDING.for_range(builder, self._blocks) as loop:
            self._index = loop.index
            self.is_last = builder.icmp_signed("==", loop.index, last)
            rows = [self._come(self._pointer(base)) for base in bases]
            for self.bar in range(LANES):
                yield [Vector(builder, row[self.bar]) for row in rows]
            for places, made in self._late.items():
                self._given(places, made)
        self.state.leave()

    def whole(self, number: Vector) -> None:
        """Notes what must be finite: else the lane's last slot is NaN, and what it did is worth nothing."""
        self.state[self._wholeness] += number - number

    def out(self, places: tuple[int, ...], made: Callable[..., tuple[Vector, ...]], *values: Vector) -> None:
        """Gives outputs at this bar, made of values where one of them is wanted (its address is not 0)."""
        self._late.setdefault(places, []).append((made, values))

    def _given(self, places: tuple[int, ...], made: list[Late]) -> None:
        builder = self._builder
        addresses = [builder.load(builder.gep(self._outs, [LONG(place)])) for place in places]
        wanted = addresses[0]
        for address in addresses[1:]:
            wanted = builder.or_(wanted, address)
        with builder.if_then(builder.icmp_signed("!=", wanted, LONG(0))):
            bars = [function(*values) for function, values in made]
            for place, address in enumerate(addresses):
                with builder.if_then(builder.icmp_signed("!=", address, LONG(0))):
                    self._go(self._pointer(address), [bar[place].value for bar in bars])

    def _come(self, base: Any) -> list[Any]:
        rows = [
            self._builder.load(self._at(base, self._first, self._stretch, lane), align=8)
            for lane in range(LANES)
        ]
        return turned(self._builder, rows)

    def _go(self, base: Any, rows: list[Any]) -> None:
        for lane, row in enumerate(turned(self._builder, rows)):
            self._builder.store(row, self._at(base, self._out_first, self._out_stretch, lane), align=8)

    def _at(self, base: Any, first: Any, stretch: Any, lane: int) -> Any:
        builder = self._builder
        place = builder.add(first, builder.mul(self._index, LONG(LANES)))
        place = builder.add(place, builder.mul(stretch, LONG(lane)))
        return builder.bitcast(builder.gep(base, [place]), WIDE.as_pointer())

    def _address(self, table: Any, place: int) -> Any:
        return self._builder.load(self._builder.gep(table, [LONG(place)]))

    def _pointer(self, address: Any) -> Any:
        return self._builder.inttoptr(address, DOUBLE.as_pointer())


def scan(slots: int) -> Callable[[Callable[[Code], None]], Any]:
    """Makes of a step what compiled code calls, with the arguments of `typed` below.

    Lane k goes through `blocks` times eight bars from `first + k * stretch` on in the columns, and so in the
    outputs, whose places are counted of their own. `params` and `states` (a vector a slot, and one more that
    tells of gaps) are float64, `columns` and `outs` addresses; an output with the address 0 is not made.
    """

    def made(step: Callable[[Code], None]) -> Any:
        def typed(
            _: Any, first: Any, blocks: Any, stretch: Any, params: Any, states: Any, columns: Any, outs: Any,
            out_first: Any, out_stretch: Any,
        ) -> Any:  # fmt: skip
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                step(Code(builder, list(values), slots))
                return context.get_dummy_value()

            kinds = (first, blocks, stretch, params, states, columns, outs, out_first, out_stretch)
            return cast("Any", types).void(*kinds), generate

        typed.__name__ = step.__name__
        return cast("Any", extending).intrinsic(typed)

    return made
