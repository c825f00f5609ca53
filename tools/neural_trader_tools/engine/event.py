"""An event strategy in machine code: orders, fills and state, played in one loop with the kernel.

    from neural_trader_tools.engine.desk import buy, cancel, waits

    FEATURES = {"atr": "atr({window})"}          # optional
    STATE = {"entry": -1}                        # optional; what is kept between bars, with its first value

    def on_bar(bars, features, state, desk, *, window: int = 14, width: float = 0.5):
        if desk.position == 0.0 and not waits(desk, state.entry):
            state.entry = buy(desk, quantity=1.0, limit=bars.close[-1] - width * features.atr[-1])

A function `on_bar` at the top of a file, called after each bar. `bars` and `features` end with that bar,
`desk` is the account (`engine/desk.py`), keyword-only arguments are the parameters. What it did leaves as an
order stream.
"""

import functools
import inspect
import string
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, cast

import numpy as np
import polars as pl
from numba.core import errors
from numpy.typing import NDArray

from neural_trader_tools.engine import desk, kernel, step
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import FILL_AT_CLOSE, FILLS, MAINTENANCE
from neural_trader_tools.engine.addresses import ints_at, past_floats_at, past_ints_at
from neural_trader_tools.engine.faults import StrategyFault, did_you_mean
from neural_trader_tools.engine.feature import COLUMNS, Evaluate, feature_values
from neural_trader_tools.engine.parameters import Parameter, bind, convert, function_parameters
from neural_trader_tools.engine.rule import NUMBERS, PLAIN, machine_of, reason_of, refuse_at

Floats = NDArray[np.float64]
ARGUMENTS: Final = ("bars", "features", "state", "desk")
_FORM: Final = "write def on_bar(bars, features, state, desk, *, window: int = 14)"


@dataclass(frozen=True)
class Event:
    """An event strategy that keeps the form; compiled on first use.

    Attributes:
        features: Expressions by name, parameters in braces.
        state: First values by name: int or float.
        parameters: By name, in the order in which they are declared.
        function: The user's `on_bar`.
    """

    features: Mapping[str, str]
    state: Mapping[str, int | float]
    parameters: Mapping[str, Parameter]
    function: Any

    def commands(
        self, bars: pl.DataFrame, params: Mapping[str, Any], cash: float, rules: Floats, evaluate: Evaluate
    ) -> Floats:
        """Returns the order stream, shape (rows, 14).

        Args:
            bars: time, open, high, low, close, volume, and dividend where they are paid.
            params: The parameters that differ from their defaults.
            cash: At the start.
            rules: See `account.make_rules`.
            evaluate: Computes a feature.

        Raises:
            StrategyFault: a wrong parameter, feature or order, or a function that cannot be compiled.
        """
        bound = bind(self.parameters, params)
        values = [convert(parameter, bound[name]) for name, parameter in self.parameters.items()]
        named = dict(zip(self.parameters, values, strict=True))
        features = [feature_values(evaluate, text.format(**named), bars) for text in self.features.values()]
        columns = {name: _seen(bars[name]) for name in COLUMNS}
        times = _opens(bars["time"])
        paid = bars["dividend"].to_numpy().astype(np.float64) if "dividend" in bars.columns else np.empty(0)
        cells = step.Cells(columns, times, paid, rules, cash)
        cells.fills = np.empty((4 * step.FILLS_A_BAR, len(o.FILL_COLUMNS)))  # few: they stay in the cache
        cells.grow(0, 0)
        step.enter(0, 0, 0, cells.address)  # so that the account is told before the first bar
        cursor, memory = np.zeros(desk.CURSOR_SIZE, dtype=np.int64), np.zeros(desk.MEMORY_SIZE)
        memory[desk.EXPOSURE_MAX] = kernel.exposure_max(rules)
        kinds = [(name, "i8" if isinstance(value, int) else "f8") for name, value in self.state.items()]
        state = np.zeros(1, dtype=kinds or [("nothing", "i8")])
        for name, value in self.state.items():
            state[name][0] = value
        begins, at_close = kernel.needs_begin(rules, paid), bool(rules[FILL_AT_CLOSE] != 0.0)
        bar = 0
        while True:
            cells.grow(int(cursor[desk.ROWS]) + o.ORDERS_PER_BAR_MAX, 0)  # fills are told and forgotten
            bar = self._play(
                bar, *columns.values(), times, tuple(features), tuple(values), state, begins, at_close,
                float(rules[MAINTENANCE]), cells.commands, cells.states, cells.fills, cells.told, cursor,
                memory, cells.account, cells.address, *step.pointers(),
            )  # fmt: skip
            if cursor[desk.ERROR]:
                code, what, next_step = desk.ERRORS[int(cursor[desk.ERROR])]
                refuse_at(self.function.__code__, StrategyFault(code, f"{what} (bar {bar})", next_step))
            if cells.told[step.STATE] == step.OVERFLOW:
                what = f"more than {o.WORKING_MAX - 2} orders are waiting on bar {bar}"
                raise StrategyFault("too_many_orders", what, "cancel old orders, or use day=True")
            if bar == len(times):
                return cells.commands[: cursor[desk.ROWS]]

    def _play(self, *arguments: Any) -> int:
        code = self.function.__code__
        try:
            return int(self._loop(*arguments))
        except (errors.NumbaError, errors.UnsupportedBytecodeError, AttributeError) as error:
            line, reason = reason_of(error, code.co_filename)
            refuse_at(code, StrategyFault("rule_not_compiled", reason, PLAIN), line)

    @functools.cached_property
    def _loop(self) -> Any:
        number = len(self.parameters)
        params = ", ".join(f"values[{place}]" for place in range(number))
        slices = ", ".join(f"features[{place}][:count]" for place in range(len(self.features)))
        text = _LOOP.format(
            features=f"Features({slices})" if self.features else "()", params=f", {params}" if params else ""
        )
        scope: dict[str, Any] = {
            **_SCOPE,
            "on_bar": machine_of(self.function, makes_arrays=False),
            "Features": cast("Any", namedtuple)("Features", list(self.features)),
        }
        exec(compile(text, "<loop of the strategy>", "exec"), scope)  # noqa: S102  # names and numbers of ours
        return machine_of(scope["loop"], makes_arrays=False)


_SCOPE: Final = {
    "Bars": desk.Bars, "Desk": desk.Desk, "CASH": step.CASH, "POSITION": step.POSITION,
    "BOOKED": step.BOOKED, "FILLS": step.FILL_COUNT, "STATE": step.STATE, "WATCHED": step.WATCHED,
    "OVERFLOW": step.OVERFLOW, "FALL": step.FALL, "RISE": step.RISE, "EXPIRY": step.EXPIRY,
    "ROWS": desk.ROWS, "FIRST_ROW": desk.FIRST_ROW, "ERROR": desk.ERROR, "ENTERED": desk.ENTERED,
    "LEDGER_FILLS": FILLS, "TOLD": desk.TOLD, "MOST": o.ORDERS_PER_BAR_MAX, "FILLS_A_BAR": step.FILLS_A_BAR,
    "INFINITE": np.inf, "TIMES": step.TIMES, "OPEN": step.OPEN, "HIGH": step.HIGH, "LOW": step.LOW,
    "CLOSE": step.CLOSE, "VOLUME": step.VOLUME, "ADDRESSES": step.ADDRESSES, "ints_at": ints_at,
    "past_ints_at": past_ints_at, "past_floats_at": past_floats_at, "whole": np.uint64,
}  # fmt: skip

_LOOP: Final = """\
def loop(
    bar, open_, high, low, close, volume, times, features, values, state, begins, at_close, maintenance,
    rows, states, fills, account, cursor, memory, ledger, at, before, after, enter,
):
    record, cells = state[0], ints_at(at, ADDRESSES)
    times_at, open_at, high_at = cells[TIMES], cells[OPEN], cells[HIGH]
    low_at, close_at, volume_at = cells[LOW], cells[CLOSE], cells[VOLUME]
    entered, told = cursor[ENTERED], cursor[TOLD]
    cash, position, filled = account[CASH], account[POSITION], int(account[FILLS])
    fall, rise, expiry, waiting = account[FALL], account[RISE], account[EXPIRY], account[BOOKED] > 0.0
    watched, stays = account[STATE] == WATCHED, expiry == INFINITE
    cursor[FIRST_ROW] = entered
    rows_most, fills_most = rows.shape[0] - MOST, fills.shape[0] - FILLS_A_BAR
    while bar < close.size and entered <= rows_most:
        place = whole(bar)  # an index without a sign: no negative one to be turned around
        # one branch for both prices, because which of them is reached cannot be foreseen
        if begins or (
            waiting
            and not ((low[place] > fall) & (high[place] < rise) and (stays or times[place] < expiry))
        ):
            if filled > fills_most:  # what was told is forgotten
                filled -= told
                for number in range(filled):
                    for column in range(fills.shape[1]):
                        fills[number, column] = fills[told + number, column]
                ledger[LEDGER_FILLS] = account[FILLS] = filled
                told = 0
            before(bar, entered, entered, at)
            cash, position, filled = account[CASH], account[POSITION], int(account[FILLS])
            fall, rise, expiry, waiting = account[FALL], account[RISE], account[EXPIRY], account[BOOKED] > 0.0
            watched, stays = account[STATE] == WATCHED, expiry == INFINITE
            if account[STATE] == OVERFLOW:
                return bar
        count, last = bar + 1, close[place]
        on_bar(
            Bars(
                past_ints_at(times_at, count), past_floats_at(open_at, count),
                past_floats_at(high_at, count), past_floats_at(low_at, count),
                past_floats_at(close_at, count), past_floats_at(volume_at, count)
            ),
            {features},
            record,
            Desk(
                cash, position, cash + position * last, fills[told:filled], bar, rows, states, cursor, memory
            ){params}
        )
        told = filled
        if cursor[ERROR] != 0:
            return bar
        if cursor[ROWS] > entered:
            enter(bar, entered, cursor[ROWS], at)
            entered = cursor[ROWS]
            cursor[FIRST_ROW] = entered
            fall, rise, expiry, waiting = account[FALL], account[RISE], account[EXPIRY], account[BOOKED] > 0.0
            watched, stays = account[STATE] == WATCHED, expiry == INFINITE
            if account[STATE] == OVERFLOW:
                return bar
        if (at_close and waiting) or (
            watched and cash + position * last <= maintenance * abs(position) * last
        ):
            if filled > fills_most:  # what was told is forgotten
                filled -= told
                for number in range(filled):
                    for column in range(fills.shape[1]):
                        fills[number, column] = fills[told + number, column]
                ledger[LEDGER_FILLS] = account[FILLS] = filled
                told = 0
            after(bar, entered, entered, at)
            cash, position, filled = account[CASH], account[POSITION], int(account[FILLS])
            fall, rise, expiry, waiting = account[FALL], account[RISE], account[EXPIRY], account[BOOKED] > 0.0
            watched, stays = account[STATE] == WATCHED, expiry == INFINITE
            if account[STATE] == OVERFLOW:
                return bar
        bar += 1
    cursor[ENTERED], cursor[TOLD] = entered, told
    return bar
"""


def _seen(column: pl.Series, kind: Any = np.float64) -> NDArray[Any]:
    """Returns a column that nobody can write to, and copies it only where it has to."""
    values = np.ascontiguousarray(column.to_numpy(), dtype=kind).view()
    values.flags.writeable = False
    return values


def _opens(column: pl.Series) -> NDArray[np.int64]:
    """Returns microseconds since 1970, as they lie where they are that: polars would start a query."""
    if column.dtype != pl.Datetime("us", "UTC"):
        return _seen(column.dt.cast_time_unit("us").to_physical(), np.int64)
    times = column.to_numpy().view(np.int64)
    times.flags.writeable = False
    return times


def find_event(namespace: Mapping[str, Any]) -> Event | None:
    """Returns the compiled strategy of a file that defines `on_bar` at its top; None where it does not.

    Raises:
        StrategyFault: `invalid_rule`: it does not keep the form, with its line.
    """
    function = namespace.get("on_bar")
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        return None
    code = function.__code__
    given = inspect.signature(function).parameters.values()
    names = tuple(a.name for a in given if a.kind is not a.KEYWORD_ONLY)
    if names != ARGUMENTS or any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in given):
        refuse_at(code, StrategyFault("invalid_rule", f"on_bar takes {', '.join(names) or 'nothing'}", _FORM))
    parameters, _ = function_parameters(function, after=len(ARGUMENTS))
    for parameter in parameters.values():
        if parameter.kind not in NUMBERS:
            what = f"parameter {parameter.name!r} of on_bar is not declared as int, float or bool"
            refuse_at(code, StrategyFault("invalid_rule", what, f"write {parameter.name}: float"))
    features = _table(namespace, "FEATURES", str, 'write FEATURES = {"fast": "sma({fast})"}', code)
    state = _table(namespace, "STATE", int | float, 'write STATE = {"entry": -1, "level": 0.0}', code)
    for text in features.values():
        for _, name, _, _ in string.Formatter().parse(text):
            if name is not None and name not in parameters:
                what = f"{text!r:.60} uses {{{name}}}, which is no parameter of on_bar"
                next_step = did_you_mean(name, parameters) if parameters else f"add it: *, {name}: int = 20"
                refuse_at(code, StrategyFault("invalid_rule", what, next_step))
    return Event(features, state, parameters, function)


def _table(namespace: Mapping[str, Any], name: str, kind: Any, next_step: str, code: Any) -> dict[str, Any]:
    table = namespace.get(name, {})
    if not isinstance(table, dict) or not all(
        isinstance(key, str) and key.isidentifier() and not key.startswith("_") and isinstance(value, kind)
        for key, value in cast("dict[object, object]", table).items()
    ):
        refuse_at(code, StrategyFault("invalid_rule", f"{name} is {table!r:.60}", next_step))
    return cast("dict[str, Any]", table)


def prepare() -> None:
    """Compiles, or loads from their cache, the desk and what the loop calls; starts no threads."""
    step.pointers()
    none, ints, floats = np.empty((0, len(o.FILL_COLUMNS))), np.zeros(64, dtype=np.int64), np.zeros(2)
    cursor = np.zeros(desk.CURSOR_SIZE, dtype=np.int64)
    told = desk.Desk(1.0, 0.0, 1.0, none, 0, np.empty((64, len(o.COLUMNS))), ints, cursor, floats)
    nan = np.nan
    order = desk.place(told, 1.0, 1.0, nan, 1.0, nan, nan, nan, nan, False, -1.0, nan, False)
    desk.cancel(told, order)
    desk.waits(told, order)
    desk.target(told, 0.0)
    desk.close(told)
