"""The paper venue: fills against archived prices at the replay clock, durable and idempotent.

Rules, each named in the fill it makes:

- market: at once, at the last close known at the replay clock.
- limit: at once at the last close if that is at the limit or better; otherwise it rests, and a later
  bar that trades through fills it at the better of its open and the limit.
- stop: at once at the last close if that is at or beyond the stop; otherwise the first later bar that
  touches the stop fills it at the worse of its open and the stop.
- stop_limit: triggers like a stop; fills at the trigger price if the limit allows, else rests as a limit
  from the next bar on.
- ioc, fok: filled at once as above, whole, or canceled.
- A `day` order lives for one session of its symbol after acceptance, then expires. No commission.
- Prices are unadjusted and lie on the tick grid, rounded against the trader.
- A split while an order works cancels it: its prices were for other shares.
- No partial fills: archived daily bars tell nothing about depth.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import anyio.to_thread
import polars as pl

from neural_trader_governance.errors import DataError, NetworkError
from neural_trader_governance.terms.clocks import Clock, format_time, parse_time
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.market import Bar, interval_duration
from neural_trader_governance.terms.money import price_tick, round_to_tick
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.port import BrokerReport, VenueBooks
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock, newest_bar

_SCHEMA = """
CREATE TABLE IF NOT EXISTS venue_orders (
    client_order_id TEXT PRIMARY KEY,
    intent          TEXT,
    state           TEXT NOT NULL,
    detail          TEXT NOT NULL,
    accepted_time   TEXT NOT NULL,
    triggered       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS venue_fills (
    execution_id    TEXT PRIMARY KEY,
    client_order_id TEXT NOT NULL REFERENCES venue_orders (client_order_id),
    fill            TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Match:
    """What the matching rules decided for one bar: a price with its rule, or only a trigger."""

    price: Decimal | None
    rule: str = ""
    triggered: bool = False


def match_now(intent: OrderIntent, last: Decimal) -> Match:
    """Applies the rules for the moment of arrival, when only the last close is known."""
    buying = intent.side == "buy"
    triggered = True
    if intent.stop_price is not None:
        triggered = last >= intent.stop_price if buying else last <= intent.stop_price
    if not triggered:
        return Match(None)
    if intent.limit_price is not None and (
        last > intent.limit_price if buying else last < intent.limit_price
    ):
        return Match(None, triggered=intent.stop_price is not None)
    return Match(last, f"{intent.type}: last close known at the replay clock", triggered=True)


def match_bar(intent: OrderIntent, bar: Bar, *, triggered: bool) -> Match:
    """Applies the rules to one later bar; all prices on the tick grid, rounded against the trader."""
    buying = intent.side == "buy"
    against: Literal["up", "down"] = "up" if buying else "down"

    def tick(value: float) -> Decimal:
        price = Decimal(repr(value))
        return round_to_tick(price, price_tick(price), against)

    opening = tick(bar.open)
    if intent.stop_price is not None and not triggered:
        touched = bar.high >= float(intent.stop_price) if buying else bar.low <= float(intent.stop_price)
        if not touched:
            return Match(None)
        price = max(opening, intent.stop_price) if buying else min(opening, intent.stop_price)
        if intent.limit_price is None:
            return Match(price, "stop: the worse of the bar's open and the stop", triggered=True)
        allowed = price <= intent.limit_price if buying else price >= intent.limit_price
        return Match(price if allowed else None, "stop_limit: filled where it triggered", triggered=True)
    limit = intent.limit_price
    if limit is None:
        return Match(None)
    through = bar.low <= float(limit) if buying else bar.high >= float(limit)
    if not through:
        return Match(None, triggered=triggered)
    price = min(opening, limit) if buying else max(opening, limit)
    return Match(price, f"{intent.type}: the better of the bar's open and the limit", triggered=True)


class PaperBroker:
    """A venue of its own, with its own file, so that the desk must reconcile as with any other."""

    name = "paper"
    mode: Literal["paper", "live"] = "paper"

    def __init__(self, path: Path, archive: Archive, replay: ReplayClock, clock: Clock) -> None:
        self._path = path
        self._archive = archive
        self._replay = replay
        self._clock = clock
        with self._transaction() as connection:
            connection.executescript(_SCHEMA)

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Accepts and, where the rules allow, fills at once; a known id is only looked up."""
        return await anyio.to_thread.run_sync(self._submit, client_order_id, intent)

    async def order(self, client_order_id: str) -> BrokerReport | None:
        """Matches up to the replay clock and returns what is known."""
        return await anyio.to_thread.run_sync(self._order, client_order_id)

    async def cancel(self, client_order_id: str) -> BrokerReport:
        """Cancels a working order; a finished one is reported as it is, an unknown id is barred."""
        return await anyio.to_thread.run_sync(self._cancel, client_order_id)

    async def close_unknown(self, client_order_id: str) -> BrokerReport:
        """Reports a known order; bars an unknown id for ever."""
        return await anyio.to_thread.run_sync(self._close_unknown, client_order_id)

    def unsupported(self, intent: OrderIntent) -> str:
        """Names what this venue does not have; the paper exchange has all of it (docs/exchange.md)."""
        if intent.replaces is not None:
            return "it replaces no orders; leave replaces out: orders_cancel the old one, and preview anew"
        if intent.type in {"trailing_stop", "oco"} or intent.has_exits:
            return (
                "it has no trailing stops, pairs and brackets, as the paper exchange has;"
                " leave trail, take_profit and stop_loss out, with type market, limit, stop or stop_limit"
            )
        if intent.time_in_force in {"opg", "cls"}:
            return (
                "it has no auctions, which the paper exchange has (docs/exchange.md); leave time_in_force out"
            )
        return ""

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Refuses: `unsupported` says so before."""
        return BrokerReport(
            client_order_id=client_order_id, state="rejected", detail=self.unsupported(intent)
        )

    async def books(self) -> VenueBooks | None:
        """None: this venue keeps orders and fills, and no account of its own."""
        return None

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except sqlite3.Error as error:  # as with any venue: what came of it is unknown, not negative
            raise NetworkError(
                "venue_unavailable",
                f"the paper venue's file {self._path.name} cannot be used ({error})",
                "check the home's disk and permissions; reconciliation settles what is in doubt",
            ) from error

    def _submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        now = self._replay.now()
        with self._transaction() as connection:
            if (known := self._report(connection, client_order_id)) is not None:
                return known
            state, detail, match = "accepted", "", Match(None)
            try:
                match = match_now(intent, self._replay.quote(intent.symbol).last)
            except DataError as error:
                state, detail = "rejected", f"no price: {error.what}"
            connection.execute(
                "INSERT INTO venue_orders VALUES (?, ?, ?, ?, ?, ?)",
                (
                    client_order_id,
                    intent.model_dump_json(),
                    state,
                    detail,
                    format_time(now),
                    int(match.triggered),
                ),
            )
            if match.price is not None:
                self._fill(connection, client_order_id, intent, match, now)
            elif state == "accepted" and intent.time_in_force in {"ioc", "fok"}:
                detail = f"{intent.time_in_force}: the last close does not meet its price"
                self._end(connection, client_order_id, "canceled", detail)
            return self._known_report(connection, client_order_id)

    def _order(self, client_order_id: str) -> BrokerReport | None:
        with self._transaction() as connection:
            self._match_later_bars(connection, client_order_id)
            return self._report(connection, client_order_id)

    def _cancel(self, client_order_id: str) -> BrokerReport:
        with self._transaction() as connection:
            self._bar(connection, client_order_id, "canceled", "canceled before it arrived")
            self._match_later_bars(connection, client_order_id)
            connection.execute(
                "UPDATE venue_orders SET state = 'canceled', detail = 'canceled on request'"
                " WHERE client_order_id = ? AND state = 'accepted'",
                (client_order_id,),
            )
            return self._known_report(connection, client_order_id)

    def _bar(self, connection: sqlite3.Connection, client_order_id: str, state: str, detail: str) -> None:
        """Records an id that the venue never saw, so that a late submit of it is refused; else nothing."""
        connection.execute(
            "INSERT OR IGNORE INTO venue_orders VALUES (?, NULL, ?, ?, ?, 0)",
            (client_order_id, state, detail, format_time(self._replay.now())),
        )

    def _close_unknown(self, client_order_id: str) -> BrokerReport:
        with self._transaction() as connection:
            self._bar(connection, client_order_id, "rejected", "never reached the venue")
            self._match_later_bars(connection, client_order_id)
            return self._known_report(connection, client_order_id)

    def _match_later_bars(self, connection: sqlite3.Connection, client_order_id: str) -> None:
        """Plays the bars that became known since the order was accepted; the same bars, the same result."""
        row = connection.execute(
            "SELECT intent, accepted_time, triggered FROM venue_orders"
            " WHERE client_order_id = ? AND state = 'accepted'",
            (client_order_id,),
        ).fetchone()
        if row is None:
            return
        intent = OrderIntent.model_validate_json(row[0])
        triggered = bool(row[2])
        since, now = parse_time(row[1]), self._replay.now()
        bars = self._bars_between(intent.symbol, since, now)
        split_time = self._next_split(intent.symbol, since, now)
        for bar in bars:
            if split_time is not None and bar.event_time >= split_time:
                detail = "a split changed the shares; place it again"
                self._end(connection, client_order_id, "canceled", detail)
                return
            if intent.time_in_force == "day" and bar.event_time.date() > bars[0].event_time.date():
                self._expire(connection, client_order_id, bars[0])
                return
            match = match_bar(intent, bar, triggered=triggered)
            triggered = triggered or match.triggered
            if match.price is not None:
                self._fill(connection, client_order_id, intent, match, bar.known_time)
                return
        if (
            bars
            and intent.time_in_force == "day"
            and interval_duration(bars[0].interval) >= timedelta(days=1)
        ):
            self._expire(connection, client_order_id, bars[0])

    def _expire(self, connection: sqlite3.Connection, client_order_id: str, first: Bar) -> None:
        detail = f"day order: its session of {first.event_time.date().isoformat()} is over"
        self._end(connection, client_order_id, "expired", detail)

    def _bars_between(self, symbol: str, since: datetime, until: datetime) -> list[Bar]:
        """Returns the raw bars that became known in (since, until], oldest first.

        A bar no newer than the newest known at `since` is a correction: its time had passed already.
        """
        newest = newest_bar(self._archive, symbol, as_of=until)
        if newest is None:
            return []
        interval = newest[1]
        rows = self._archive.bars(symbol, interval, as_of=until, adjust="none")
        fresh = rows.filter(pl.col("known_time") > since)
        before = self._archive.bars(symbol, interval, as_of=since, adjust="none").get_column("event_time")
        if not before.is_empty():
            fresh = fresh.filter(pl.col("event_time") > before.item(-1))
        return [Bar(symbol=symbol, interval=interval, **row) for row in fresh.iter_rows(named=True)]

    def _next_split(self, symbol: str, since: datetime, until: datetime) -> datetime | None:
        splits = self._archive.actions(symbol, until).filter(
            (pl.col("kind") == "split") & (pl.col("event_time") > since)
        )
        return splits.get_column("event_time").to_list()[0] if not splits.is_empty() else None

    def _end(self, connection: sqlite3.Connection, client_order_id: str, state: str, detail: str) -> None:
        connection.execute(
            "UPDATE venue_orders SET state = ?, detail = ? WHERE client_order_id = ?",
            (state, detail, client_order_id),
        )

    def _fill(
        self,
        connection: sqlite3.Connection,
        client_order_id: str,
        intent: OrderIntent,
        match: Match,
        moment: datetime,
    ) -> None:
        assert match.price is not None  # noqa: S101 - callers check
        fill = Fill(
            execution_id=f"{client_order_id}-1",
            client_order_id=client_order_id,
            symbol=intent.symbol,
            side=intent.side,
            quantity=intent.quantity,
            price=match.price,
            fee=Decimal(0),
            event_time=moment,
            known_time=self._clock.now(),
            clock="replay",
            rule=match.rule,
        )
        connection.execute(
            "INSERT INTO venue_fills VALUES (?, ?, ?)",
            (fill.execution_id, client_order_id, fill.model_dump_json()),
        )
        connection.execute(
            "UPDATE venue_orders SET state = 'filled' WHERE client_order_id = ?", (client_order_id,)
        )

    def _known_report(self, connection: sqlite3.Connection, client_order_id: str) -> BrokerReport:
        report = self._report(connection, client_order_id)
        assert report is not None  # noqa: S101 - the caller wrote it in this transaction
        return report

    def _report(self, connection: sqlite3.Connection, client_order_id: str) -> BrokerReport | None:
        row = connection.execute(
            "SELECT state, detail FROM venue_orders WHERE client_order_id = ?", (client_order_id,)
        ).fetchone()
        if row is None:
            return None
        fills = connection.execute(
            "SELECT fill FROM venue_fills WHERE client_order_id = ? ORDER BY execution_id", (client_order_id,)
        ).fetchall()
        return BrokerReport(
            client_order_id=client_order_id,
            state=row[0],
            detail=row[1],
            fills=tuple(Fill.model_validate_json(text) for (text,) in fills),
        )
