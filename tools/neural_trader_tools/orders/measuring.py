"""Measuring: the costs of the desk's orders, out of its fills, its arrivals and the archive's bars."""

import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.orders import Order
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, book
from neural_trader_tools.orders.accounting.settlement import trade_date
from neural_trader_tools.orders.arrivals import Arrival, find_arrival
from neural_trader_tools.orders.costs import Benchmarks, Execution, OrderCost, measure


@dataclass(frozen=True, slots=True)
class Measured:
    """The costs of orders, newest order first, and the orders that cannot be measured, with why."""

    costs: list[OrderCost]
    unmeasured: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Interval:
    """What the market did while an order worked."""

    vwap: Decimal | None = None
    volume: Decimal | None = None
    source: str = ""


def measure_orders(
    connection: sqlite3.Connection,
    archive: Archive,
    replay: ReplayClock,
    *,
    client_order_id: str | None = None,
    account: str | None = None,
    day: date | None = None,
    limit: int = 10_000,
) -> Measured:
    """Measures one order, or all of an account or of a day (of their arrival, in New York).

    Raises:
        ExecutionError: there is no order of that id.
    """
    if client_order_id is not None:
        orders = [book.find_order(connection, client_order_id)]
    else:
        orders = book.list_orders(connection, limit=limit)
    now = replay.now()
    measured = Measured([], [])
    for order in orders:
        if account is not None and order.intent.account != account:
            continue
        arrival = find_arrival(connection, order.preview_id)
        if arrival is None:
            measured.unmeasured.append((order.client_order_id, "no price was noted when it was placed"))
            continue
        if day is not None and trade_date(arrival.arrival_time) != day:
            continue
        try:
            last = replay.quote(order.intent.symbol).last
        except DataError as error:
            measured.unmeasured.append((order.client_order_id, error.what))
            continue
        measured.costs.append(_cost(connection, archive, order, arrival, last, now))
    return measured


def _cost(
    connection: sqlite3.Connection,
    archive: Archive,
    order: Order,
    arrival: Arrival,
    last: Decimal,
    now: datetime,
) -> OrderCost:
    fills, intent = accounts.fills_of(connection, order.client_order_id), order.intent
    left = order.filled_quantity < intent.quantity
    until = max((fill.event_time for fill in fills), default=now) if not left else now
    around = market_between(archive, intent.symbol, arrival.arrival_time, until)
    splits = archive.actions(intent.symbol, now).filter(
        (pl.col("kind") == "split") & pl.col("event_time").is_between(arrival.decision_time, now)
    )
    factor = Decimal(1)  # an order's prices are for the shares of its own time
    for ratio in splits.get_column("value").to_list():
        factor *= Decimal(repr(float(ratio)))
    against = Benchmarks(
        arrival.decision_price, arrival.arrival_price, last * factor, around.vwap, around.volume
    )
    executions = [Execution(fill.quantity, fill.price, fill.fee) for fill in fills]
    row = connection.execute("SELECT currency FROM accounts WHERE account = ?", (intent.account,)).fetchone()
    return OrderCost(
        client_order_id=order.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        type=intent.type,
        state=order.state,
        strategy=intent.strategy_id or "",
        currency=row[0],
        decision_time=arrival.decision_time,
        arrival_time=arrival.arrival_time,
        valued_at=until,
        vwap_source=around.source,
        cost=measure(intent.side, intent.quantity, executions, against),
    )


def market_between(archive: Archive, symbol: str, since: datetime, until: datetime) -> Interval:
    """Returns the market's volume-weighted price over the finest bars that became known in (since, until].

    A bar counts with its typical price, (high + low + close) / 3: exact prints are not in the archive. None
    where no bar lies between, as for an order that was filled where it arrived.
    """
    for interval in sorted(archive.instrument(symbol).intervals, key=_finest_first):
        bars = archive.bars(symbol, interval, start=since - timedelta(days=7), as_of=until, adjust="none")
        bars = bars.filter((pl.col("known_time") > since) & (pl.col("known_time") <= until))
        value = volume = Decimal(0)
        for high, low, close, traded in bars.select("high", "low", "close", "volume").iter_rows():
            if traded is None or not traded > 0:
                continue
            size = Decimal(repr(float(traded)))
            value += size * sum(Decimal(repr(float(each))) for each in (high, low, close)) / 3
            volume += size
        if volume:
            return Interval(value / volume, volume, f"{bars.height} bars of {interval}, typical prices")
    return Interval()


def _finest_first(interval: str) -> float:
    from neural_trader_governance.terms.market import interval_duration

    return interval_duration(interval).total_seconds()
