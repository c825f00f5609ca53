"""The records of a replay as frames: its equity, trades, orders and fills. What artifacts hold."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.ledger import Handles
from neural_trader_tools.backtest.replay import Replay
from neural_trader_tools.engine import orders as o

Floats = NDArray[np.float64]

_OF_THE_ORDER: Final = (o.BY_MARKET, o.BY_LIMIT, o.BY_STOP, o.BY_STOP_LIMIT, o.BY_TRAIL, o.BY_TARGET)


def keep(replay: Replay, artifacts: Artifacts) -> Handles:
    """Keeps all four as artifacts.

    Raises:
        StorageError: the disk refused.
    """
    return Handles(
        equity=artifacts.put(equity_frame(replay), "equity"),
        trades=artifacts.put(trades_frame(replay), "trades"),
        orders=artifacts.put(orders_frame(replay), "orders"),
        fills=artifacts.put(fills_frame(replay), "fills"),
    )


def equity_frame(replay: Replay) -> pl.DataFrame:
    """Returns one row a bar: time, equity, drawdown (a positive fraction), exposure and gross_exposure.

    Exposure is what is held at the close over equity, shorts negative; gross_exposure is the sum without
    signs. Both are null where equity is not above zero.
    """
    peak = np.maximum.accumulate(np.maximum(replay.equity, replay.cash))
    net, gross = _held(replay)
    living = replay.equity > 0.0
    over = np.where(living, replay.equity, 1.0)
    return pl.DataFrame(
        {
            "time": _times(replay.times),
            "equity": replay.equity,
            "drawdown": 1.0 - replay.equity / peak,
            "exposure": _known(living, pl.Series(net / over)),
            "gross_exposure": _known(living, pl.Series(gross / over)),
        }
    )


def trades_frame(replay: Replay) -> pl.DataFrame:
    """Returns one row a trade; exit_time and exit_price are null while it is open."""
    from neural_trader_tools.engine.trades import TRADE_COLUMNS

    frames: list[pl.DataFrame] = []
    for one in replay.symbols:
        columns = dict(zip(TRADE_COLUMNS, one.trades.T, strict=True))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": pl.Series([one.prices.symbol] * len(one.trades), dtype=pl.String),
                    "entry_time": _at(one.prices.times, columns.pop("entry_bar")),
                    "exit_time": _at(one.prices.times, columns.pop("exit_bar")),
                    "side": pl.Series(np.where(columns.pop("side") > 0, "long", "short"), dtype=pl.String),
                    **columns,
                }
            ).with_columns(pl.col("exit_price").fill_nan(None))
        )
    return pl.concat(frames)


def orders_frame(replay: Replay) -> pl.DataFrame:
    """Returns one row for each order, target and cancellation, with what became of it and its fill."""
    frames: list[pl.DataFrame] = []
    for one in replay.symbols:
        commands, fills = one.commands, one.fills
        price = np.full(len(commands), np.nan)
        filled = np.full(len(commands), np.nan)
        entries = fills[np.isin(fills[:, o.FILL_REASON], _OF_THE_ORDER)]
        rows = entries[:, o.FILL_ORDER].astype(np.int64)
        price[rows], filled[rows] = entries[:, o.FILL_PRICE], entries[:, o.FILL_QUANTITY]
        for row in np.flatnonzero(np.bincount(rows) > 1):  # filled in parts: the sum, at the average
            parts = entries[rows == row]
            filled[row] = parts[:, o.FILL_QUANTITY].sum()
            price[row] = (parts[:, o.FILL_QUANTITY] * parts[:, o.FILL_PRICE]).sum() / filled[row]
        frames.append(
            pl.DataFrame(
                {
                    "symbol": pl.Series([one.prices.symbol] * len(commands), dtype=pl.String),
                    "time": _at(one.prices.times, commands[:, o.BAR]),
                    "action": _words(("order", "target", "cancel"), commands[:, o.ACTION]),
                    "side": _words(("sell", "", "buy"), commands[:, o.SIDE] + 1),
                    "size": commands[:, o.SIZE],
                    "sized_by": _words(("quantity", "fraction"), commands[:, o.SIZED_BY]),
                    **{o.COLUMNS[c]: commands[:, c] for c in range(o.LIMIT, o.STOP_LOSS + 1)},
                    "time_in_force": _words(("gtc", "day"), commands[:, o.TIME_IN_FORCE]),
                    "trail_loss": commands[:, o.TRAIL_LOSS],
                    "trail_by": _words(("distance", "part"), commands[:, o.TRAIL_BY]),
                    "oco": commands[:, o.OCO],
                    "state": _words(o.STATES, one.states),
                    "filled_quantity": filled,
                    "filled_price": price,
                }
            ).with_columns(pl.selectors.float().fill_nan(None))
        )
    return pl.concat(frames)


def fills_frame(replay: Replay) -> pl.DataFrame:
    """Returns one row a fill, symbol by symbol, with the position after it.

    `order` is the row among the symbol's rows of `orders_frame`, from 0; null for a liquidation.
    """
    frames: list[pl.DataFrame] = []
    for one in replay.symbols:
        columns = dict(zip(o.FILL_COLUMNS, one.fills.T, strict=True))
        order = columns["order"]
        frames.append(
            pl.DataFrame(
                {
                    "symbol": pl.Series([one.prices.symbol] * len(one.fills), dtype=pl.String),
                    "time": _at(one.prices.times, columns["bar"]),
                    "order": _known(order >= 0, pl.Series(order).cast(pl.Int64)),
                    "reason": _words(o.REASONS, columns["reason"]),
                    **{name: columns[name] for name in ("quantity", "price", "commission", "position")},
                }
            )
        )
    return pl.concat(frames)


def _held(replay: Replay) -> tuple[Floats, Floats]:
    """Returns the value of what is held at the replay's times, with and without signs."""
    net, gross = np.zeros(len(replay.times)), np.zeros(len(replay.times))
    for one in replay.symbols:
        last = np.searchsorted(one.prices.times, replay.times, side="right") - 1
        value = np.where(last >= 0, (one.positions * one.prices.close)[last], 0.0)
        net += value
        gross += np.abs(value)
    return net, gross


def _times(times: NDArray[np.int64]) -> pl.Series:
    return pl.Series(times).cast(pl.Datetime("us", "UTC"))


def _known(known: NDArray[np.bool_], values: pl.Series) -> pl.Series:
    """Returns the values, null where they are not known."""
    shown = pl.when(pl.Series(known)).then(values).otherwise(None)
    return pl.select(shown.alias("value")).to_series()


def _at(times: NDArray[np.int64], bars: Floats) -> pl.Series:
    """Returns the times of bar numbers; NaN becomes null."""
    known = ~np.isnan(bars)
    values = np.zeros(len(bars), dtype=np.int64)
    values[known] = times[bars[known].astype(np.int64)]
    return _known(known, _times(values))


def _words(words: Sequence[str], codes: NDArray[Any]) -> pl.Series:
    return pl.Series([words[int(code)] for code in codes], dtype=pl.String)
