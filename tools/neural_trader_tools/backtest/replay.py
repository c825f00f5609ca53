"""The replay: a checked stream played over the bars by the trusted engine. The official result."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.arena import ARENA

if TYPE_CHECKING:
    from neural_trader_tools.backtest.curve import Falls

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SymbolReplay:
    """What one symbol's stream came to.

    Attributes:
        prices: The bars.
        commands: The order stream, (rows, 14).
        states: What became of each row, see `orders.STATES`.
        fills: (fills, 7), see `orders.FILL_COLUMNS`.
        trades: (trades, 9), see `trades.TRADE_COLUMNS`.
        equity: Cash plus position at each close.
        rejections: Orders that equity could not carry, or that came to nothing.
        ruined: Equity fell to zero or below; the position was liquidated.
        falls: Of the equity, where they are known; None: not yet.
    """

    prices: Prices
    commands: Floats
    states: NDArray[np.int64]
    fills: Floats
    trades: Floats
    equity: Floats
    rejections: int
    ruined: bool
    falls: "Falls | None" = None

    @property
    def positions(self) -> Floats:
        """Units held at each close."""
        return self._at_closes(np.concatenate([[0.0], self.fills[:, o.FILL_POSITION]]))

    @property
    def exposed_bars(self) -> int:
        """At how many closes anything is held."""
        from neural_trader_tools.backtest.exposure import bars_held

        return bars_held(self.fills, len(self.prices))

    @property
    def exposed(self) -> NDArray[np.bool_]:
        """Whether anything is held at each close."""
        return self._at_closes(np.concatenate([[False], self.fills[:, o.FILL_POSITION] != 0.0]))

    def _at_closes(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns for each close one of the values: the first before any fill, the next after one, …."""
        bars = self.fills[:, o.FILL_BAR].astype(np.int64)
        return np.repeat(values, np.diff(bars, prepend=0, append=len(self.prices)))


def replay_symbol(kind: str, stream: Floats, prices: Prices, settings: Settings, cash: float) -> SymbolReplay:
    """Plays one symbol.

    Args:
        kind: `signals` or `orders`.
        stream: Targets, (bars,), or commands, (rows, 14), as `read_stream` returned them.
        prices: The bars.
        settings: Costs and rules.
        cash: Cash of this symbol at the start.

    Raises:
        StrategyError: too many orders wait at once.
    """
    from neural_trader_tools.backtest.curve import read_falls
    from neural_trader_tools.engine import kernel
    from neural_trader_tools.engine.guest import rules
    from neural_trader_tools.engine.trades import round_trips

    equity, nobody = ARENA.floats(len(prices)), np.empty(0)
    if kind == "signals":
        bars = equity  # which is written later
        commands = ARENA.floats(kernel.changed_bars(stream, bars), len(o.COLUMNS))
        kernel.write_changes(stream, bars, commands)
    else:
        commands = stream
    account = np.zeros(kernel.ACCOUNT_SIZE)
    limits = rules(settings.model_dump(mode="python"))
    fills = ARENA.floats(kernel.fills_max(len(commands), len(prices), limits), len(o.FILL_COLUMNS))
    states = np.zeros(len(commands), dtype=np.int64)
    kernel.play(
        prices.open, prices.high, prices.low, prices.close, prices.volume, prices.times,
        prices.dividends, commands, cash,
        limits, account, fills, equity, nobody, states,
    )  # fmt: skip
    if account[kernel.OVERFLOW] != 0.0:
        raise StrategyError(
            "too_many_orders",
            f"more than {o.WORKING_MAX - 2} orders wait at once",
            "cancel old orders, or use time_in_force='day'",
        )
    falls = read_falls(equity, cash)
    if not math.isfinite(falls.total):
        raise StrategyError(
            "equity_overflow",
            f"{prices.symbol:.40}: equity is too large for a number",
            "check the prices for wrong units, and trade smaller sizes",
        )
    count = int(account[kernel.FILLS])
    if fills.base is None:
        fills.resize((count, len(o.FILL_COLUMNS)), refcheck=False)  # in place, no copy
    fills = fills[:count]
    return SymbolReplay(
        prices=prices,
        commands=commands,
        states=states,
        fills=fills,
        trades=round_trips(fills, float(prices.close[-1])),
        equity=equity,
        rejections=int(account[kernel.REJECTIONS]),
        ruined=bool(account[kernel.RUINED]),
        falls=falls,
    )


def warm_up() -> None:
    """Compiles the trusted engine, or loads it from its cache; `setup` calls it, so that nobody waits."""
    from neural_trader_tools.backtest.curve import read_curve

    line = np.ones(3)
    prices = Prices("X", np.arange(3, dtype=np.int64), line, line, line, line, line)
    played = replay_symbol("signals", np.array([1.0, 0.0, 1.0]), prices, Settings(), 1.0)
    whole = Replay.combine([played], 1.0)
    read_curve(whole.equity, whole.cash, whole.falls)


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A whole backtest: every symbol with its equal share of the cash.

    Attributes:
        symbols: One replay each, in the order asked for.
        times: Times of the union of all bars, int64 microseconds.
        equity: Sum over the symbols at these times; a symbol without a bar keeps its last value.
        exposed_bars: At how many of these times anything is held.
        cash: Cash at the start.
        falls: Of the equity, where they are known; None: not yet.
    """

    symbols: Sequence[SymbolReplay]
    times: NDArray[np.int64]
    equity: Floats
    exposed_bars: int
    cash: float
    falls: "Falls | None" = None

    @classmethod
    def combine(cls, symbols: Sequence[SymbolReplay], cash: float) -> "Replay":
        """Adds the symbols up on the union of their times."""
        if len(symbols) == 1:
            only = symbols[0]
            return cls(symbols, only.prices.times, only.equity, only.exposed_bars, cash, only.falls)
        times = np.unique(np.concatenate([symbol.prices.times for symbol in symbols]))
        equity, exposed = np.zeros(len(times)), np.zeros(len(times), dtype=np.bool_)
        for symbol in symbols:
            last = np.searchsorted(symbol.prices.times, times, side="right") - 1
            begun = last >= 0
            equity += np.where(begun, symbol.equity[last], cash / len(symbols))
            exposed |= begun & symbol.exposed[last]
        return cls(symbols, times, equity, int(np.count_nonzero(exposed)), cash)

    def in_order_of(self, prices: Sequence[Prices]) -> "Replay":
        """Returns it with the symbols in the order of these prices."""
        found = {symbol.prices.symbol: symbol for symbol in self.symbols}
        return replace(self, symbols=[found[one.symbol] for one in prices])
