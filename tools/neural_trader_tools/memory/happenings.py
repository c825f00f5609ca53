"""What happened since: the log's new entries, read as events worth remembering.

Orders, fills and backtests are entries; closed trades and the looks back on them follow from the fills
before. Reading changes nothing, and the same entries give the same events in every process.
"""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import InputError, StorageError
from neural_trader_governance.store import Store
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.sweeps.record import SweepRecord
from neural_trader_tools.memory.events import Event, Placed, of_order, of_reflection, of_trip
from neural_trader_tools.memory.run_events import of_backtest, of_missing_run, of_sweep
from neural_trader_tools.memory.trips import Trip, Trips
from neural_trader_tools.orders.accounts import SplitBetween

BATCH: Final = 40
"""Entries that are turned into events at once."""
_KINDS: Final = (EntryType.ORDER_INTENT, EntryType.BROKER_FILL, EntryType.BACKTEST_RESULT)

FindRun = Callable[[str], BacktestRecord | SweepRecord | None]


@dataclass(frozen=True, slots=True)
class Happenings:
    """What the entries before `next_seq` tell, from where the last reading ended."""

    events: list[Event]
    next_seq: int


class Happened:
    """Reads the log's entries as events; remembers open trades between readings, and only them.

    Args:
        store: The log, and the desk's orders and fills beside it.
        split_between: How many shares of the second moment one share of the first has become.
        find_run: A backtest or sweep by its id.
    """

    def __init__(self, store: Store, split_between: SplitBetween, find_run: FindRun) -> None:
        self._store = store
        self._split_between = split_between
        self._find_run = find_run
        self._trips: Trips | None = None
        self._read_to = -1

    def read(self, start: int) -> Happenings:
        """Returns the events of at most `BATCH` entries from `start` on.

        Raises:
            StorageError: the log cannot be read, or an entry's archive is away.
        """
        if self._read_to != start:  # others read meanwhile, or what we had read was not kept
            self._trips = None
        with self._store.read() as connection:
            size = connection.execute("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entries").fetchone()[0]
            marks = ", ".join("?" for _ in _KINDS)
            rows = connection.execute(
                f"SELECT seq FROM audit_entries WHERE seq >= ? AND type IN ({marks}) ORDER BY seq LIMIT ?",  # noqa: S608 - only marks
                (start, *_KINDS, BATCH),
            ).fetchall()
            events: list[Event] = []
            if rows:
                trips = self._caught_up(connection, start)
                for (seq,) in rows:
                    events += self._of_entry(connection, trips, read_entry(connection, int(seq)))
        # Where there was no room for more, the rest follows.
        self._read_to = int(rows[-1][0]) + 1 if len(rows) == BATCH else max(int(size), start)
        return Happenings(events, self._read_to)

    def _caught_up(self, connection: sqlite3.Connection, start: int) -> Trips:
        """Returns the trips that were open before `start`: as they stand, or made anew of all fills."""
        if self._trips is None:
            self._trips = Trips(self._split_between, self._price_of)
            rows = connection.execute(
                "SELECT account, fill, audit_seq FROM fills WHERE audit_seq < ? ORDER BY audit_seq", (start,)
            )
            for account, text, seq in rows:
                self._trips.feed(str(account), Fill.model_validate_json(text), int(seq))
        self._prices: dict[str, Decimal | None] = {}
        self._connection = connection
        return self._trips

    def _price_of(self, client_order_id: str) -> Decimal | None:
        """Returns the price at which an order was previewed."""
        row = self._connection.execute(
            "SELECT price FROM previews JOIN orders USING (preview_id) WHERE orders.client_order_id = ?",
            (client_order_id,),
        ).fetchone()
        return None if row is None else Decimal(row[0])

    def _of_entry(self, connection: sqlite3.Connection, trips: Trips, entry: LoggedEntry) -> list[Event]:
        if entry.type is EntryType.ORDER_INTENT:
            placed = _placed(connection, entry)
            return [of_order(placed, entry)]
        if entry.type is EntryType.BACKTEST_RESULT:
            return [self._of_run(entry)]
        fill = Fill.model_validate_json(json.dumps(entry.payload))
        trip = trips.feed(entry.account or "", fill, entry.seq)
        return [] if trip is None else _of_trip(connection, trip, fill.currency)

    def _of_run(self, entry: LoggedEntry) -> Event:
        run_id = str(entry.payload.get("run_id"))
        agent = entry.agent or f"person:{entry.principal}"
        run = self._find_run(run_id)
        if isinstance(run, SweepRecord):
            return of_sweep(run, entry, agent)
        if run is None or run.digest != entry.payload.get("digest"):  # the log knows better than the record
            return of_missing_run(run_id, entry, agent)
        return of_backtest(run, entry, agent)


def _of_trip(connection: sqlite3.Connection, trip: Trip, currency: str) -> list[Event]:
    first, last = (_order(connection, trip.orders[at]) for at in (0, -1))
    trade = of_trip(trip, first.intent.agent, currency)
    return [trade, of_reflection(trip, trade, first, last, currency)]


def _order(connection: sqlite3.Connection, client_order_id: str) -> Placed:
    """Returns an order of the desk; one that it adopted from the venue has no entry of its own making."""
    row = connection.execute(
        "SELECT intent, audit_seq FROM orders WHERE client_order_id = ?", (client_order_id,)
    ).fetchone()
    if row is None:
        raise StorageError(
            "order_missing",
            f"the log has a fill of {client_order_id}, and the desk has no such order",
            "run `neural-trader orders history` on it",
        )
    entry = read_entry(connection, int(row[1]))
    if entry.type is EntryType.ORDER_INTENT:
        return _placed(connection, entry)
    intent = OrderIntent.model_validate_json(row[0])
    return Placed(client_order_id, int(row[1]), intent, None, tainted=False, recalled=())


def _placed(connection: sqlite3.Connection, entry: LoggedEntry) -> Placed:
    payload: dict[str, Any] = dict(entry.payload)
    recalled: dict[str, Any] = payload.get("recalled") or {}
    price = payload.get("price")
    return Placed(
        client_order_id=entry.client_order_id or "",
        seq=entry.seq,
        intent=OrderIntent.model_validate_json(json.dumps(payload["intent"])),
        price=None if price is None else Decimal(str(price)),
        tainted=_was_tainted(connection, payload.get("decision_seq")),
        recalled=tuple(str(each) for each in recalled.get("memories", ())),
    )


def _was_tainted(connection: sqlite3.Connection, decision_seq: object) -> bool:
    """Tells whether the decision found its agent marked; what cannot be told counts as yes."""
    try:
        context = read_entry(connection, int(str(decision_seq))).payload["context"]
    except (InputError, StorageError, KeyError, ValueError):
        return True
    return not isinstance(context, dict) or context.get("tainted") is not False


def recorded_runs(connection: sqlite3.Connection) -> set[str]:
    """Returns the ids of the runs that are on record, archived entries left out."""
    query = "SELECT entry FROM audit_entries WHERE type = ? AND length(entry) > 0"
    rows = connection.execute(query, (EntryType.BACKTEST_RESULT,))
    return {str(json.loads(entry)["payload"].get("run_id")) for (entry,) in rows}
