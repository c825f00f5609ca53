"""The stream: what came out of the sandbox, believed only after every cell was checked.

The guest may be under the control of hostile code. It can forge any stream; what it cannot do is
claim a profit, a fill or a time: those are made by the trusted replay.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.engine import orders as o

Floats = NDArray[np.float64]
_NUMBERS = [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]


class StreamHeader(BaseModel):
    """The JSON beside the columns: which of the two kinds of answer it is. Nothing else is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["signals", "orders"]


class WeightsHeader(BaseModel):
    """The JSON beside a portfolio's columns. Nothing else is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["weights"]


def read_stream(
    value: JsonValue, columns: Mapping[str, Floats], bar_count: int, exposure_max: float = 1.0
) -> tuple[str, Floats]:
    """Returns the checked answer of a guest.

    Args:
        value: The JSON that the guest returned.
        columns: The arrays that the guest returned.
        bar_count: Bars that it was given.
        exposure_max: Largest target and fraction; more than 1 where there is leverage.

    Returns:
        `("signals", targets)` with shape (bars,), or `("orders", commands)` with shape (rows, 14).

    Raises:
        StrategyError: `forged_stream`, with the reason.
    """
    try:
        header = StreamHeader.model_validate(value)
    except ValidationError as error:
        raise forged(f"its header is not valid ({error.errors()[0]['msg'][:80]})") from None
    if header.kind == "orders":
        columns = _with_columns_of_3(columns)
    expected = ("target",) if header.kind == "signals" else o.COLUMNS
    if set(columns) != set(expected):
        raise forged(f"it has {len(columns)} columns, not exactly: {', '.join(expected)}")
    arrays = [columns[name] for name in expected]
    if header.kind == "orders" and arrays[0].size > o.ORDERS_PER_BAR_MAX * bar_count:
        raise forged(f"it has {arrays[0].size} rows, more than {o.ORDERS_PER_BAR_MAX} on each bar")
    for name, array in zip(expected, arrays, strict=True):
        if array.dtype != np.float64 or array.ndim != 1 or len(array) != len(arrays[0]):
            raise forged(f"column {name} is not a float64 array of the common length")
    if header.kind == "signals":
        return "signals", check_targets(arrays[0], bar_count, exposure_max)
    return "orders", check_orders(np.column_stack(arrays), bar_count, exposure_max=exposure_max)


def read_weights(
    value: JsonValue,
    columns: Mapping[str, Floats],
    time_count: int,
    symbol_count: int,
    exposure_max: float = 1.0,
) -> tuple[NDArray[np.int64], Floats]:
    """Returns the checked weights of a guest.

    Args:
        value: The JSON that the guest returned.
        columns: The arrays that the guest returned.
        time_count: Times at which there is a bar.
        symbol_count: Symbols that it was given.
        exposure_max: Largest sum of the absolute weights of one time.

    Returns:
        Rows, ascending indexes of times, shape (R,), and weights, shape (R, symbols); NaN leaves alone.

    Raises:
        StrategyError: `forged_stream`, with the reason.
    """
    try:
        WeightsHeader.model_validate(value)
    except ValidationError as error:
        raise forged(f"its header is not valid ({error.errors()[0]['msg'][:80]})") from None
    if set(columns) != {"row", "weight"}:
        raise forged(f"it has {len(columns)} columns, not exactly: row, weight")
    return check_weights(columns["row"], columns["weight"], time_count, symbol_count, exposure_max)


def check_weights(
    rows: Floats, weights: Floats, time_count: int, symbol_count: int, exposure_max: float = 1.0
) -> tuple[NDArray[np.int64], Floats]:
    """Returns rows of weights as `read_weights` does.

    Raises:
        StrategyError: `forged_stream`, with the reason.
    """
    for name, array in (("row", rows), ("weight", weights)):
        if array.dtype != np.float64 or array.ndim != 1:
            raise forged(f"column {name} is not a float64 array")
    if len(weights) != len(rows) * symbol_count:
        raise forged(f"it has {len(weights)} weights for {len(rows)} rows of {symbol_count} symbols")
    if not ((rows == np.floor(rows)) & (rows >= 0) & (rows < time_count)).all():
        raise forged("a row is decided at a time that does not exist")
    if (np.diff(rows) <= 0).any():
        raise forged("a row is decided before the row above it")
    checked = weights.reshape(len(rows), symbol_count)
    if not (np.isnan(checked) | np.isfinite(checked)).all():
        raise forged("a weight is infinite")
    if not (np.nansum(np.abs(checked), axis=1) <= exposure_max * (1.0 + 2e-9)).all():
        raise forged(f"the absolute weights of a time sum to more than {exposure_max:g}")
    return rows.astype(np.int64), _without_dust(np.array(checked, dtype=np.float64, order="C"))


def check_targets(targets: Floats, bar_count: int, exposure_max: float = 1.0) -> Floats:
    """Returns a contiguous copy of a target array.

    Raises:
        StrategyError: its length is not the number of bars, or a value is neither NaN nor in the range.
    """
    if targets.shape != (bar_count,):
        raise forged(f"it has {targets.shape[0]} targets for {bar_count} bars")
    if not (np.isnan(targets) | (np.abs(targets) <= exposure_max)).all():
        raise forged(f"a target lies outside -{exposure_max:g} … {exposure_max:g}")
    return _without_dust(np.array(targets, dtype=np.float64))


def check_orders(
    commands: Floats,
    bar_count: int,
    *,
    first_row: int = 0,
    exposure_max: float = 1.0,
    most: int = o.ORDERS_PER_BAR_MAX,
) -> Floats:
    """Returns a contiguous copy of an order stream, or of a part of one.

    Args:
        commands: Shape (rows, 14), see `orders.COLUMNS`.
        bar_count: Bars that there are.
        first_row: Number of the first row, where rows before it were checked earlier.
        exposure_max: Largest target and fraction.
        most: Rows that one bar may have.

    Raises:
        StrategyError: `forged_stream`: a row is decided on a bar that does not exist, out of order, too
            often on one bar, or holds a code, size or price that no honest strategy can produce.
    """
    bars, action, side, size = (commands[:, c] for c in (o.BAR, o.ACTION, o.SIDE, o.SIZE))
    by, prices, force = (
        commands[:, o.SIZED_BY],
        commands[:, o.LIMIT : o.STOP_LOSS + 1],
        commands[:, o.TIME_IN_FORCE],
    )
    rows = first_row + np.arange(len(commands))
    orders, targets, cancels = action == o.ORDER, action == o.TARGET, action == o.CANCEL
    oco, trail_loss, trail_by = (commands[:, c] for c in (o.OCO, o.TRAIL_LOSS, o.TRAIL_BY))
    absent = np.isnan(prices)
    limit, stop, trail = (~absent[:, c - o.LIMIT] for c in (o.LIMIT, o.STOP, o.TRAIL))
    _refuse(
        ~np.isfinite(commands[:, _NUMBERS]).all(axis=1),
        "holds NaN or infinity",
    )
    _refuse(
        (bars != np.floor(bars)) | (bars < 0) | (bars >= bar_count), "is decided on a bar that does not exist"
    )
    _refuse(np.diff(bars, prepend=0.0) < 0, "is decided before the row above it")
    _refuse(~(orders | targets | cancels), "has an unknown action")
    _refuse(
        ~np.isin(by, (o.QUANTITY, o.FRACTION))
        | ~np.isin(force, (o.GTC, o.DAY))
        | ~np.isin(trail_by, (o.DISTANCE, o.PART)),
        "has an unknown code",
    )
    _refuse(np.where(orders, np.abs(side) != 1, side != 0), "has an impossible side")
    _refuse(orders & (size <= 0), "has a size that is not above 0")
    _refuse(orders & (size < o.SIZE_MIN), f"has a size below {o.SIZE_MIN:g}")
    _refuse(orders & (size > o.SIZE_MAX), f"has a size beyond {o.SIZE_MAX:g}")
    _refuse(orders & (by == o.FRACTION) & (size > exposure_max), f"has a fraction above {exposure_max:g}")
    _refuse(
        targets & (np.abs(size) > exposure_max),
        f"has a target outside -{exposure_max:g} … {exposure_max:g}",
    )
    _refuse(
        cancels & ((size != np.floor(size)) | (size < 0) | (size >= rows)),
        "cancels an order that is not above it",
    )
    _refuse((~absent & ~(np.isfinite(prices) & (prices > 0))).any(axis=1), "has a price that is not above 0")
    _refuse(~orders & ~absent.all(axis=1), "has a price where none belongs")
    _refuse(trail & (limit | stop), "combines a trailing stop with another price")
    trails = ~np.isnan(trail_loss)
    _refuse(trails & ~(np.isfinite(trail_loss) & (trail_loss > 0)), "has a trail_loss that is not above 0")
    _refuse(
        (trail_by == o.PART) & (np.fmax(commands[:, o.TRAIL], trail_loss) >= 1),
        "trails by 1 or more of a price",
    )
    joins = ~np.isnan(oco)
    _refuse(
        joins & ~((oco == np.floor(oco)) & (oco >= 0) & (oco < rows)), "joins an order that is not above it"
    )
    _refuse(~orders & (trails | joins | (trail_by != 0)), "has a trail_loss or oco where none belongs")
    if len(commands) and np.unique(bars, return_counts=True)[1].max() > most:
        raise forged(f"it has more than {most} rows on one bar")
    checked = np.array(commands, dtype=np.float64, order="C") + 0.0  # minus zero becomes zero
    checked[targets, o.SIZE] = _without_dust(checked[targets, o.SIZE])
    return checked


def _with_columns_of_3(columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Returns the columns of a stream; to one from before engine 3, those that came with it are added."""
    if set(columns) != set(o.COLUMNS_BEFORE_3):
        return columns
    absent = np.full(len(columns["bar"]), np.nan)
    return {**columns, "oco": absent, "trail_loss": absent, "trail_by": np.zeros(len(absent))}


def _without_dust(targets: Floats) -> Floats:
    """Returns targets with zero in place of minus zero and of what is too near to zero, NaN kept."""
    return np.where(np.abs(targets) < o.SIZE_MIN, 0.0, targets)


def _refuse(bad: Any, reason: str) -> None:
    rows: NDArray[np.bool_] = np.asarray(bad)
    if rows.any():
        raise forged(f"row {int(rows.argmax())} {reason}")


def forged(reason: str) -> StrategyError:
    """Returns the refusal of what no honest strategy sends."""
    return StrategyError(
        "forged_stream",
        f"the sandbox returned an order stream that no honest strategy produces: {reason}",
        "remove whatever tampers with the engine from the strategy; nothing was executed",
    )
