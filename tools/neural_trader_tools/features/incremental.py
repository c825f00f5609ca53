"""Features bar by bar: the same kernels as over columns, continued from where the last bar left them.

One call into machine code takes the new bar, moves all features on and gives their values. Bars are kept as
far back as the features look; when that buffer is full, its end moves to its beginning, which costs every
few hundred bars what one bar costs otherwise. So an update is O(1) on average, whatever the history's length,
but for the features whose catalogue entry says that they cost a window a bar.

Runs inside the sandbox too: standard library, numpy, numba and the engine only.
"""

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numba
import numpy as np
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import compiled
from neural_trader_tools.features import catalogue
from neural_trader_tools.features.definition import Definition

Part = tuple[Definition, tuple[int | float, ...]]
Floats = NDArray[np.float64]

TYPES: Any = cast(Any, numba).types
IR: Any = importlib.import_module("llvmlite.ir")  # no stubs

INPUTS: Final = ("open", "high", "low", "close", "volume", "time")
KERNEL: Final = "neural_trader_tools.features.compiled"
SPARE_BARS: Final = 512
"""Room in the buffer beyond what features look back: how many bars come between two moves."""

NEXT, REACH, ROOM, PARTS, SLOTS, BARS, RESULTS, VALUES, HEAD = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""The plan's head: the next bar's place, counts, addresses; a row for each kernel and the slots follow."""
CODE, COUNT, FIRST, PARAMS, STATE, OUT, FIELDS = 0, 1, 2, 8, 9, 10, 11
"""A kernel's row: its code, how many inputs and their columns, and its numbers (addresses)."""


class IncrementalSet:
    """A set of features, updated bar by bar; not for several threads at once.

    Args:
        expressions: Such as `["rsi(14)", "macd(12,26,9).signal"]`; those of one feature and parameters share
            its work.

    Attributes:
        expressions: Their canonical spelling, in the order of the values.

    Raises:
        ValueError: a mistake in an expression, or there is none.
    """

    def __init__(self, expressions: Sequence[str]) -> None:
        features = [catalogue.parse(expression) for expression in expressions]
        if not features:
            raise ValueError("invalid_feature: no expression was given; give at least one, such as rsi(14)")
        self.expressions = [feature.expression for feature in features]
        self.reads_time = any("time" in feature.definition.inputs for feature in features)
        parts = list(dict.fromkeys((feature.definition, feature.arguments) for feature in features))
        reach = max(definition.reach_bars(*arguments) for definition, arguments in parts)
        self._bars = np.zeros((len(INPUTS), 2 * reach + SPARE_BARS))
        values = np.full(len(features), np.nan)
        self._plan, *self._kept = self._planned(features, parts, reach, values)
        self._block = int(self._plan.ctypes.data)
        self._advance = _entry()
        # Python asks numpy for the new array: machine code would need four times as long to make one.
        self._values = values.copy

    def update(
        self,
        open: float,  # noqa: A002 (the bar's own words)
        high: float,
        low: float,
        close: float,
        volume: float,
        time: float = math.nan,
    ) -> Floats:
        """Takes the next bar.

        Args:
            open: Of the bar; NaN is a gap, as in a column, and so for the others.
            high: See open.
            low: See open.
            close: See open.
            volume: See open.
            time: The bar's open in seconds since 1970, where a feature of the calendar is in the set.

        Returns:
            A new array of the features' values at this bar, NaN where undefined: bit for bit what
            `catalogue.evaluate` gives there over all bars so far.

        Raises:
            ValueError: `missing_time`.
        """
        if self.reads_time and time != time:
            raise ValueError(
                "missing_time: a feature of the calendar is in the set and the bar has no time;"
                " pass time=, its open in seconds since 1970"
            )
        self._advance(self._block, open, high, low, close, volume, time)
        return self._values()

    def _planned(
        self, features: Sequence[catalogue.Feature], parts: Sequence[Part], reach: int, values: Floats
    ) -> list[Any]:
        """Lays out the numbers and says where the kernels find them: the plan, and what it points to."""
        machine: Any = importlib.import_module(KERNEL).machine
        params = [np.array([*arguments, 0.0], dtype=np.float64) for _, arguments in parts]
        states = [np.zeros(definition.state_floats(*arguments)) for definition, arguments in parts]
        places = [0, *np.cumsum([len(definition.outputs) for definition, _ in parts]).tolist()]
        results = np.full(places[-1], np.nan)
        plan = np.zeros(HEAD + FIELDS * len(parts) + len(features), dtype=np.int64)
        plan[REACH], plan[ROOM] = reach, self._bars.shape[1]
        plan[PARTS], plan[SLOTS] = len(parts), len(features)
        plan[BARS], plan[RESULTS] = self._bars.ctypes.data, results.ctypes.data
        plan[VALUES] = values.ctypes.data
        rows = plan[HEAD : HEAD + FIELDS * len(parts)].reshape(len(parts), FIELDS)
        for k, (definition, _) in enumerate(parts):
            count = len(definition.inputs)
            rows[k, CODE] = machine(definition.kernels, definition.name, count).address
            rows[k, COUNT] = count
            for place, name in enumerate(definition.inputs):
                rows[k, FIRST + place] = self._bars[INPUTS.index(name)].ctypes.data
            rows[k, PARAMS] = params[k].ctypes.data
            rows[k, STATE] = states[k].ctypes.data
            rows[k, OUT] = results.ctypes.data + 8 * places[k]
        order = [parts.index((feature.definition, feature.arguments)) for feature in features]
        plan[HEAD + FIELDS * len(parts) :] = [
            places[k] + feature.output for k, feature in zip(order, features, strict=True)
        ]
        return [plan, results, params, states]


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast("Callable[..., Any]", intrinsic(function))


@_intrinsic
def _call(_: Any, address: Any, arguments: Any) -> Any:
    """Calls machine code at an address with a tuple of integers, which is how addresses are passed too."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        integers: list[Any] = cast(Any, cgutils).unpack_tuple(builder, values[1])
        integer: Any = IR.IntType(64)
        kind: Any = IR.FunctionType(IR.VoidType(), [integer] * len(integers))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), integers)
        return context.get_dummy_value()

    return TYPES.void(address, arguments), generate


@_intrinsic
def _integers(_: Any, address: Any) -> Any:
    """The integers at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return TYPES.CPointer(TYPES.int64)(address), generate


@_intrinsic
def _floats(_: Any, address: Any) -> Any:
    """The numbers at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return TYPES.CPointer(TYPES.float64)(address), generate


def _advance(
    block: int, opening: float, high: float, low: float, close: float, volume: float, time: float
) -> None:
    """Appends a bar, moves every feature on and leaves the chosen values where the plan says."""
    plan = _integers(block)
    bars = _floats(plan[BARS])
    room = plan[ROOM]
    i = plan[NEXT]
    if i == room:
        reach = plan[REACH]
        for row in range(6):
            for k in range(reach):
                bars[row * room + k] = bars[row * room + i - reach + k]
        i = reach
    plan[NEXT] = i + 1
    bars[i] = opening
    bars[room + i] = high
    bars[2 * room + i] = low
    bars[3 * room + i] = close
    bars[4 * room + i] = volume
    bars[5 * room + i] = time
    row = HEAD
    for _ in range(plan[PARTS]):
        code = plan[row + CODE]
        count = plan[row + COUNT]
        a = plan[row + FIRST]
        b = plan[row + FIRST + 1]
        c = plan[row + FIRST + 2]
        d = plan[row + FIRST + 3]
        params = plan[row + PARAMS]
        state = plan[row + STATE]
        out = plan[row + OUT] - 8 * i  # a kernel writes to out[i]
        if count == 1:
            _call(code, (i, i + 1, 1, a, params, state, out))
        elif count == 2:
            _call(code, (i, i + 1, 1, a, b, params, state, out))
        elif count == 3:
            _call(code, (i, i + 1, 1, a, b, c, params, state, out))
        elif count == 4:
            _call(code, (i, i + 1, 1, a, b, c, d, params, state, out))
        else:
            _call(code, (i, i + 1, 1, a, b, c, d, plan[row + FIRST + 4], params, state, out))
        row += FIELDS
    results = _floats(plan[RESULTS])
    values = _floats(plan[VALUES])
    for k in range(plan[SLOTS]):
        values[k] = results[plan[row + k]]


@functools.cache
def _entry() -> Callable[..., None]:
    """Returns `_advance` without numba's look at each argument's type, which would cost half the time.

    Its arguments are converted to the types it was compiled for, so that a volume may be an int.
    """
    dispatcher: Any = compiled(_advance, nogil=False)
    signature = (TYPES.int64, *[TYPES.float64] * len(INPUTS))
    dispatcher.compile(signature)
    return dispatcher.overloads[signature].entry_point
