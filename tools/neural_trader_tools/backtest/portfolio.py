"""The portfolio: bars of many symbols laid out by time, and the trusted replay of weights over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_governance.errors import DataError, StrategyError
from neural_trader_sandbox.tables import Table
from neural_trader_tools.backtest.prices import VALUES, Prices
from neural_trader_tools.backtest.replay import Replay, SymbolReplay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """The bars of several symbols as one row of events, sorted by time, then by the symbols' order.

    Attributes:
        prices: One for each symbol.
        times: Every time at which a symbol has a bar, int64 microseconds, shape (T,).
        starts: First event of each time, shape (T + 1,).
        symbols: Symbol of each event, shape (K,).
        bars: Number of each event's bar among its symbol's, shape (K,).
        open: Open of each event; so are the following.
        high: See open.
        low: See open.
        close: See open.
        volume: See open.
        dividends: Cash for each unit on an ex-date; empty where no symbol pays any.
    """

    prices: Sequence[Prices]
    times: Ints
    starts: Ints
    symbols: Ints
    bars: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividends: Floats

    @classmethod
    def of(cls, prices: Sequence[Prices]) -> "Panel":
        """Lays the bars out.

        Raises:
            DataError: `duplicate_symbols`: a symbol comes twice.
        """
        if len({one.symbol for one in prices}) < len(prices):
            raise DataError("duplicate_symbols", "a symbol comes twice", "name each symbol once")
        every = np.concatenate([one.times for one in prices])
        symbols = np.repeat(np.arange(len(prices)), [len(one) for one in prices])
        order = np.lexsort((symbols, every))
        times, first = np.unique(every[order], return_index=True)

        def column(name: str) -> Floats:
            return np.concatenate([getattr(one, name) for one in prices])[order]

        paid = [one.dividends if len(one.dividends) else np.zeros(len(one)) for one in prices]
        return cls(
            prices=prices,
            times=times,
            starts=np.append(first, len(every)).astype(np.int64),
            symbols=symbols[order].astype(np.int64),
            bars=np.concatenate([np.arange(len(one)) for one in prices])[order].astype(np.int64),
            open=column("open"),
            high=column("high"),
            low=column("low"),
            close=column("close"),
            volume=column("volume"),
            dividends=np.concatenate(paid)[order]
            if any(len(one.dividends) for one in prices)
            else np.empty(0),
        )

    @classmethod
    def by_name(cls, prices: Sequence[Prices]) -> "Panel":
        """Lays the bars out with the symbols sorted by name."""
        return cls.of(sorted(prices, key=lambda one: one.symbol))

    def table(self) -> Table:
        """Returns the frame as tables enter a sandbox."""
        return Table(self.frame().write_ipc_stream)

    def frame(self) -> pl.DataFrame:
        """Returns the bars as portfolio strategies see them: time, symbol, open … volume, dividend."""
        names = pl.Series(
            [one.symbol for one in self.prices], dtype=pl.Enum([one.symbol for one in self.prices])
        )
        offsets = np.cumsum([0] + [len(one) for one in self.prices[:-1]])
        order = offsets[self.symbols] + self.bars
        columns = {
            name: np.concatenate([getattr(one, name) for one in self.prices])[order] for name in VALUES
        }
        times = np.repeat(self.times, np.diff(self.starts))
        return pl.DataFrame(
            {
                "time": pl.Series(times).cast(pl.Datetime("us", "UTC")),
                "symbol": names.gather(self.symbols),
                **columns,
                **({"dividend": self.dividends} if len(self.dividends) else {}),
            }
        )


def replay_portfolio(rows: Ints, weights: Floats, panel: Panel, settings: Settings, cash: float) -> Replay:
    """Plays rows of target weights.

    Args:
        rows: Index into the panel's times at which each row was decided, ascending, shape (R,).
        weights: Parts of equity by row and symbol, shape (R, S); NaN leaves a symbol alone.
        panel: The bars.
        settings: Costs and rules.
        cash: Cash at the start, shared by all symbols.

    Raises:
        StrategyError: equity is no number.
    """
    from neural_trader_tools.engine import portfolio as engine
    from neural_trader_tools.engine.account import ACCOUNT_SIZE, REJECTIONS, RUINED, needs_begin
    from neural_trader_tools.engine.guest import rules

    limits = rules(settings.model_dump(mode="python"))
    count = len(panel.times)
    purse, positions = np.zeros(ACCOUNT_SIZE), np.zeros(len(panel.prices))
    fills = np.empty((len(engine.FILL_COLUMNS), engine.fills_max(weights, len(panel.symbols), limits)))
    pending = np.empty(len(panel.prices))
    equity, gross, net = np.empty(count), np.empty(count), np.empty(count)
    filled = engine.play_portfolio(
        panel.times, panel.starts, panel.symbols, panel.open, panel.close, panel.volume, panel.dividends,
        rows, weights, cash, limits, needs_begin(limits, panel.dividends), purse, positions, fills, pending,
        equity, gross, net,
    )  # fmt: skip
    check_equity(equity)
    fills = fills[:, :filled]
    events = fills[engine.EVENT].astype(np.int64)
    of_symbol = panel.symbols[events]
    symbols: list[SymbolReplay] = []
    for number, prices in enumerate(panel.prices):
        asked = np.flatnonzero(~np.isnan(weights[:, number]))
        mine = of_symbol == number
        symbols.append(
            _symbol_replay(
                prices,
                waits=not np.isnan(pending[number]) and not purse[RUINED],
                bars=np.searchsorted(prices.times, panel.times[rows[asked]], side="right") - 1,
                weights=weights[asked, number],
                fills=fills[:, mine],
                bar=panel.bars[events[mine]],
                row=np.asarray(np.searchsorted(asked, fills[engine.ROW, mine]), dtype=np.int64),
                rejections=int(purse[REJECTIONS]) if number == 0 else 0,
                ruined=bool(purse[RUINED]),
            )
        )
    return Replay(symbols, panel.times, equity, int(np.count_nonzero(gross > 0.0)), cash)


def check_equity(equity: Floats) -> None:
    """Checks that equity stayed a number.

    Raises:
        StrategyError: `equity_overflow`.
    """
    if not bool(np.isfinite(equity).all()):
        raise StrategyError(
            "equity_overflow",
            "equity is too large for a number",
            "check the prices for wrong units, and trade smaller sizes",
        )


def _symbol_replay(
    prices: Prices,
    *,
    waits: bool,
    bars: Ints,
    weights: Floats,
    fills: Floats,
    bar: Ints,
    row: Ints,
    rejections: int,
    ruined: bool,
) -> SymbolReplay:
    """What the portfolio did with one symbol; its equity is the value of what it holds."""
    from neural_trader_tools.engine import portfolio as engine
    from neural_trader_tools.engine.trades import round_trips

    liquidated = fills[engine.REASON] == o.BY_LIQUIDATION
    held = np.cumsum(fills[engine.QUANTITY])
    held[np.abs(held) <= 1e-9 * np.abs(fills[engine.QUANTITY])] = 0.0
    own: Floats = np.column_stack(
        [
            bar.astype(np.float64),
            np.where(liquidated, -1.0, row.astype(np.float64)),
            fills[engine.QUANTITY],
            fills[engine.PRICE],
            fills[engine.FEE],
            fills[engine.REASON],
            held,
        ]
    ).reshape(-1, len(o.FILL_COLUMNS))
    commands = np.full((len(bars), len(o.COLUMNS)), np.nan)
    commands[:, o.BAR] = np.maximum(bars, 0)
    commands[:, o.ACTION], commands[:, o.SIDE], commands[:, o.SIZE] = o.TARGET, 0, weights
    commands[:, o.SIZED_BY], commands[:, o.TIME_IN_FORCE] = o.QUANTITY, o.GTC
    commands[:, o.TRAIL_BY] = o.DISTANCE
    states = np.full(len(bars), o.DONE, dtype=np.int64)
    states[row[~liquidated]] = o.FILLED
    if waits:
        states[-1] = o.WORKING
    last = np.searchsorted(bar, np.arange(len(prices)), side="right") - 1
    positions = np.where(last >= 0, held[last] if len(held) else 0.0, 0.0)
    return SymbolReplay(
        prices=prices,
        commands=commands,
        states=states,
        fills=own,
        trades=round_trips(own, float(prices.close[-1])),
        equity=positions * prices.close,
        rejections=rejections,
        ruined=ruined,
    )
