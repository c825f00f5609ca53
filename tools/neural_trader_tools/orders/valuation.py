"""Valuation: what an account holds and is worth at the replay clock's prices."""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TypeVar

import polars as pl

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import format_time, to_epoch_us
from neural_trader_governance.terms.money import (
    MICRO,
    from_micros,
    from_nanos,
    price_tick,
    round_to_tick,
    to_micros,
    to_nanos,
)
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.portfolios import Portfolio, Position
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock, newest_bar
from neural_trader_tools.orders import accounts, postings
from neural_trader_tools.orders.accounting.margin import require
from neural_trader_tools.orders.accounting.settlement import unsettled_since
from neural_trader_tools.orders.price_memory import State, memory_of, state_of

STOP_GAP = Decimal("0.10")
"""How far beyond its stop a waiting stop buy is judged: the width of the policy's price collar."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pricer:
    """Prices at the replay clock; one instant for a whole valuation."""

    archive: Archive
    replay: ReplayClock
    now: datetime
    _known: dict[tuple[str, str], Decimal | None] = field(
        default_factory=dict[tuple[str, str], Decimal | None], init=False, compare=False
    )
    _states: dict[str, State | None] = field(
        default_factory=dict[str, State | None], init=False, compare=False
    )

    def learn(self, last: Mapping[str, Decimal]) -> None:
        """Takes last prices that were looked up already."""
        self._known.update({("last", symbol): price for symbol, price in last.items()})

    @property
    def session_start(self) -> datetime:
        """Midnight UTC before the clock: US sessions open and close within one UTC day."""
        return self.now.replace(hour=0, minute=0, second=0, microsecond=0)

    def last(self, symbol: str) -> Decimal | None:
        """Returns the last price known, or None where there is none."""
        if ("last", symbol) not in self._known:
            self._known["last", symbol] = self._recall(
                "last", symbol, lambda: self._last(symbol), lambda: self.replay.now() == self.now
            )
        return self._known["last", symbol]

    def previous(self, symbol: str) -> Decimal | None:
        """Returns the last close before the clock's session, on today's share basis."""
        if ("previous", symbol) not in self._known:
            found = self._recall("previous", symbol, lambda: self._previous(symbol))
            self._known["previous", symbol] = found
        return self._known["previous", symbol]

    def _last(self, symbol: str) -> Decimal | None:
        try:
            return self.replay.quote(symbol).last
        except DataError:
            return None

    def _previous(self, symbol: str) -> Decimal | None:
        newest = newest_bar(self.archive, symbol, as_of=self.now, end=self.session_start)
        if newest is None:
            return None
        close = Decimal(repr(float(newest[2].item(0, "close"))))
        return round_to_tick(close, price_tick(close), "nearest")

    def split_factor(self, symbol: str, since: datetime) -> Decimal:
        """Returns how many of today's shares one share of `since` is."""
        factor = Decimal(1)
        for moment, ratio in self._known_splits(symbol):
            if moment > since:
                factor *= ratio
        return factor

    def _known_splits(self, symbol: str) -> list[tuple[datetime, Decimal]]:
        """Returns `_splits`, read once for all moments at which it is the same: each fill has its own."""
        state, moments = self._state(symbol), None
        if state is not None:
            moments = self.archive.action_moments(symbol)
        period = (
            state if state is None or moments is None else (symbol, bisect_right(moments, self.now), state[2])
        )
        return memory_of(self.archive).recall("splits", period, lambda: self._splits(symbol))

    def _splits(self, symbol: str) -> list[tuple[datetime, Decimal]]:
        actions = self.archive.actions(symbol, self.now)
        splits = actions.filter((pl.col("kind") == "split") & (pl.col("event_time") <= self.now))
        return [
            (moment, Decimal(repr(float(ratio))))
            for moment, ratio in splits.select("event_time", "value").iter_rows()
        ]

    def _recall(
        self, kind: str, symbol: str, read: Callable[[], _T], still: Callable[[], bool] = lambda: True
    ) -> _T:
        return memory_of(self.archive).recall(kind, self._state(symbol), read, still)

    def _state(self, symbol: str) -> State | None:
        if symbol not in self._states:
            self._states[symbol] = state_of(self.archive, symbol, self.now)
        return self._states[symbol]


def estimate_price(intent: OrderIntent, last: Decimal) -> Decimal:
    """Returns the price that governs: a buy's limit, else the worse of the last and the stop.

    A sell's limit bounds its price from below only: one that the market already betters fills there. A
    stop buy that waits fills at the open of a bar that gaps through it, so it is judged and reserved
    with `STOP_GAP` on top; a wider gap is possible, and a stop_limit is the order that excludes it.
    """
    buying, limit, stop = intent.side == "buy", intent.limit_price, _stop(intent, last)
    if intent.type == "oco" and not buying:
        limit = intent.take_profit
    if buying and limit is not None:
        return limit
    first = last
    if stop is not None:
        if buying and last < stop:
            return round_to_tick(stop * (1 + STOP_GAP), price_tick(stop), "up")
        first = last if buying else min(last, stop)
    return first if limit is None else max(first, limit)


def _stop(intent: OrderIntent, last: Decimal) -> Decimal | None:
    """Returns the stop, or where a trailing one stands now; of two exits the one that costs more."""
    if intent.type == "oco":
        return intent.stop_loss
    distance = intent.trail_price
    if intent.trail_percent is not None:
        distance = last * intent.trail_percent / 100
    if distance is None:
        return intent.stop_price
    tick = price_tick(last)
    if intent.side == "buy":
        return round_to_tick(last + distance, tick, "up")
    return max(round_to_tick(last - distance, tick, "down"), tick)


def read_portfolios(
    connection: sqlite3.Connection, archive: Archive, replay: ReplayClock, last: Mapping[str, Decimal]
) -> dict[str, Portfolio]:
    """Values every account of the desk, each price looked up once; `last` holds prices known already.

    Raises:
        DataError: something held has no price.
    """
    pricer = Pricer(archive, replay, replay.now())
    pricer.learn(last)
    rows = connection.execute("SELECT account FROM accounts ORDER BY account").fetchall()
    return {account: read_portfolio(connection, account, archive, replay, pricer) for (account,) in rows}


def read_portfolio(
    connection: sqlite3.Connection,
    account: str,
    archive: Archive,
    replay: ReplayClock,
    pricer: Pricer | None = None,
) -> Portfolio:
    """Values one account.

    Day profit is the change of equity since the close before the clock's session: what was held then,
    at that close, plus today's cash movements, against what is held now; what its owner paid in or took
    out is none. Cash is settled by the settlement calendar (`accounting.settlement`).

    Raises:
        InputError: the account does not exist.
        DataError: something held has no price.
    """
    row = connection.execute("SELECT currency, cash FROM accounts WHERE account = ?", (account,)).fetchone()
    if row is None:
        known = [name for (name,) in connection.execute("SELECT account FROM accounts ORDER BY account")]
        raise InputError(
            "unknown_account",
            f"there is no account {account!r:.40}",
            f"use one of: {', '.join(known)}" if known else "run: neural-trader init",
        )
    currency, cash = str(row[0]), from_micros(row[1])
    pricer = pricer or Pricer(archive, replay, replay.now())
    since_us = to_epoch_us(pricer.session_start)
    traded_today, _ = accounts.cash_since(connection, account, since_us)
    posted_today, paid_in = postings.posted_since(connection, account, since_us)
    _, unsettled = accounts.cash_since(connection, account, to_epoch_us(unsettled_since(pricer.now)))
    reserved = accounts.reserved_cash(connection, account)
    positions: list[Position] = []
    equity, start_value = cash, Decimal(0)
    for symbol, holding in accounts.holdings(connection, account, pricer.split_factor):
        position, at_start = _value(
            symbol, holding, accounts.traded_since(connection, account, symbol, since_us), pricer
        )
        equity += position.market_value or Decimal(0)
        start_value += at_start
        positions.append(position)
    requirement = require(
        to_micros(cash),
        to_micros(reserved),
        [(to_nanos(item.quantity), item.market_price) for item in positions if item.market_price is not None],
        accounts.kind_of(connection, account),
    )
    return Portfolio(
        account=account,
        currency=currency,
        cash=cash,
        settled_cash=cash - unsettled,
        reserved_cash=reserved,
        buying_power=from_micros(requirement.buying_power),
        equity=equity,
        maintenance=from_micros(requirement.maintenance),
        margin_call=from_micros(requirement.call),
        day_pnl=equity - (cash - traded_today - posted_today) - start_value - paid_in,
        positions=tuple(positions),
        priced_at=pricer.now,
        clock=replay.kind,
    )


def _value(
    symbol: str, holding: accounts.Holding, traded: Decimal, pricer: Pricer
) -> tuple[Position, Decimal]:
    """Returns the valued position, and what was held at the session's start at the close before."""
    held = from_nanos(holding.quantity)
    price = pricer.last(symbol)
    if price is None and held != 0:
        raise DataError(
            "no_price",
            f"{symbol} is held but has no price at {format_time(pricer.now)}",
            f"run: neural-trader data import FILE --symbol {symbol} --interval 1d",
        )
    market_value = held * (price or Decimal(0))
    started = held - traded
    previous = pricer.previous(symbol) if started else None
    cost = from_micros(holding.cost)
    return (
        Position(
            symbol=symbol,
            quantity=held,
            average_price=(cost / held).quantize(MICRO, ROUND_HALF_EVEN) if held else Decimal(0),
            market_price=price,
            market_value=market_value,
            unrealized_pnl=market_value - cost,
            realized_pnl=from_micros(holding.realized),
        ),
        started * (previous or price or Decimal(0)),
    )
