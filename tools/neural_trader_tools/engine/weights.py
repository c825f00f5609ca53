"""Portfolio strategies: `weights(bars, **params)` decides on many symbols at once, inside the sandbox.

`bars` is one frame of all symbols: time, symbol, open, high, low, close, volume, sorted by time, then
symbol. What comes back says, for the times at which something is to change, what part of equity each symbol
should be: either long, with the columns time, symbol, weight, or wide, with time and one column for each
symbol. A time that does not come, a symbol without a row, null and NaN all mean: leave it alone. Like any
target it is filled at the next open.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine.faults import StrategyFault, did_you_mean
from neural_trader_tools.engine.guest import load, rules
from neural_trader_tools.engine.parameters import bind, function_parameters
from neural_trader_tools.engine.surroundings import Surroundings, disturb

Floats = NDArray[np.float64]
TOLERANCE: Final = 1e-9
"""By which the absolute weights of one time may exceed the bound: sums of parts are rounded."""


def run_weights(
    arguments: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Runs one portfolio strategy over the bars of all its symbols. The entry point of the sandbox job.

    Args:
        arguments: As of `guest.run_strategy`, and `symbols`: their order in what is returned.
        tables: `bars`: see the module.

    Returns:
        `{"kind": "weights"}` with the columns `row` (index among the bars' times, ascending) and `weight`
        (rows x symbols, row by row; NaN leaves alone). Whoever receives it must treat it as untrusted.

    Raises:
        StrategyFault: the strategy broke the contract. Whatever the user's code raises passes through.
    """
    frame = tables["bars"]
    kept = disturb(int(arguments["disturbance"])) if "disturbance" in arguments else []
    with Surroundings(int(arguments.get("seed", 0)), frame["time"][0]):
        namespace = load(str(arguments["source"]))
        function = namespace.get("weights")
        if not callable(function):
            raise StrategyFault(
                "no_strategy", "the file defines no function weights(bars)", "strategy_get_api shows one"
            )
        most = kernel.exposure_max(rules(arguments.get("settings", {})))
        found = call_weights(function, frame, list(arguments["symbols"]), arguments.get("params", {}), most)
    kept.clear()
    return {"kind": "weights"}, {"row": found[0].astype(np.float64), "weight": found[1].ravel()}


def call_weights(
    function: Callable[..., Any],
    frame: pl.DataFrame,
    symbols: list[str],
    params: Mapping[str, Any],
    exposure_max: float = 1.0,
) -> tuple[NDArray[np.int64], Floats]:
    """Returns the rows (indexes among the frame's times) and their weights, shape (rows, symbols).

    Raises:
        StrategyFault: a wrong type, column, time, symbol or value.
    """
    declared, takes_any = function_parameters(function)
    result = function(frame, **bind(declared, params, takes_any=takes_any))
    if not isinstance(result, pl.DataFrame):
        raise _bad(f"weights returned a {type(result).__name__}")
    if "time" not in result.columns:
        raise _bad(f"weights returned the columns {', '.join(result.columns[:5])}, without time")
    if not result.height:
        return np.empty(0, dtype=np.int64), np.empty((0, len(symbols)))
    if "symbol" in result.columns:
        result = _wide(result)
    unknown = [name for name in result.columns if name != "time" and name not in symbols]
    if unknown:
        raise StrategyFault(
            "unknown_symbol",
            f"weights returned {unknown[0]!r:.40}, which is not among the symbols of this run",
            did_you_mean(unknown[0], symbols),
        )
    return _rows(result, frame), _values(result, symbols, exposure_max)


def _wide(result: pl.DataFrame) -> pl.DataFrame:
    if "weight" not in result.columns:
        raise _bad("weights returned time and symbol, without weight")
    result = result.select("time", pl.col("symbol").cast(pl.String), "weight")
    twice = result.select("time", "symbol").is_duplicated()
    if twice.any():
        row = result.row(int(twice.arg_true()[0]))
        raise _bad(f"weights returned {row[1]!r:.40} twice at {row[0]}")
    return result.pivot(on="symbol", index="time", values="weight", maintain_order=True).sort("time")


def _rows(result: pl.DataFrame, frame: pl.DataFrame) -> NDArray[np.int64]:
    times = frame["time"].unique().sort()
    given = result["time"]
    if given.dtype != times.dtype:
        raise _bad(f"weights returned times of {given.dtype}, the bars' are {times.dtype}")
    moments, asked = times.to_physical().to_numpy(), given.to_physical().to_numpy()
    rows = np.searchsorted(moments, asked)
    strange = (rows >= len(moments)) | (moments[np.minimum(rows, len(moments) - 1)] != asked)
    if strange.any():
        raise _bad(f"weights returned {given[int(strange.argmax())]}, at which there is no bar")
    if (np.diff(rows) <= 0).any():
        raise _bad("weights returned times that do not ascend, or one twice")
    return rows.astype(np.int64)


def _values(result: pl.DataFrame, symbols: list[str], exposure_max: float) -> Floats:
    values = np.full((result.height, len(symbols)), np.nan)
    for number, symbol in enumerate(symbols):
        if symbol in result.columns:
            column = result[symbol]
            if not (column.dtype.is_numeric() or isinstance(column.dtype, pl.Boolean | pl.Null)):
                raise _bad(f"weights returned a column of {column.dtype} for {symbol}")
            values[:, number] = column.cast(pl.Float64).to_numpy()
    gross = np.nansum(np.abs(values), axis=1)
    outside = ~(gross <= exposure_max * (1.0 + TOLERANCE))
    if outside.any():
        row = int(outside.argmax())
        raise StrategyFault(
            "target_out_of_range",
            f"the weights at {result['time'][row]} sum to {gross[row]:.6g} in absolute value,"
            f" above {exposure_max:g}",
            "divide them by their sum, or ask for more leverage with a smaller margin",
        )
    return values


def _bad(what: str) -> StrategyFault:
    return StrategyFault(
        "signals_type",
        what,
        "return a polars.DataFrame with time, symbol, weight, or with time and a column for each symbol",
    )
