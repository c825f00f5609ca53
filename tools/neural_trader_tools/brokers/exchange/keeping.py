"""Keeping: the exchange's state in one SQLite file, so that it goes on where it stopped.

Orders and accounts are rows that are replaced, executions and activities rows that are added; all that one
call changed is one transaction. Prices are not kept: they come from the market again.
"""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from neural_trader_governance.errors import ConfigurationError, IntegrityError, StorageError
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.registry import Changes
from neural_trader_tools.brokers.exchange.updates import Activity, Execution

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS orders (
    id       TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS executions (
    number   INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    account  TEXT NOT NULL,
    order_id TEXT NOT NULL,
    time_ns  INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS executions_by_order ON executions (order_id, number);
CREATE TABLE IF NOT EXISTS activities (
    number   INTEGER PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    account  TEXT NOT NULL,
    time_ns  INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;
"""
_json = msgspec.json.Encoder()


class Snapshot(msgspec.Struct):
    """What one call (or several) changed, as it stands now, ready to be written by another thread."""

    now_ns: int
    counts: dict[str, int]
    orders: list[tuple[str, int, bytes]]
    accounts: list[tuple[str, bytes]]
    executions: list[tuple[str, str, str, int, bytes]]
    activities: list[tuple[str, str, int, bytes]]


def snapshot(exchange: Exchange, changes: Changes) -> Snapshot:
    """Copies what changed; cheap, and done by the thread that drives the exchange."""
    registry = exchange.registry
    orders = [registry.orders[each] for each in changes.orders]
    executions = [update.execution for update in changes.updates if update.execution is not None]
    return Snapshot(
        now_ns=exchange.now_ns,
        counts={str(name): count for name, count in registry.counts.items()},
        orders=[(order.id, order.sequence, _json.encode(order)) for order in orders],
        accounts=[(name, _json.encode(registry.accounts[name])) for name in changes.accounts],
        executions=[(e.id, e.account, e.order_id, e.time_ns, _json.encode(e)) for e in executions],
        activities=[(a.id, a.account, a.time_ns, _json.encode(a)) for a in changes.activities],
    )


class Keeper:
    """The file.

    Args:
        path: Created where it is missing.
        seed: The exchange's: ids of another seed would not go on.

    Raises:
        ConfigurationError: `exchange_seed_differs`.
        StorageError: the file cannot be used.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        with self._transaction() as connection:
            connection.executescript(_SCHEMA)
            wanted = {"version": str(_VERSION), "seed": str(seed)}
            for name, value in wanted.items():
                connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
                (found,) = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
                if found != value:
                    raise ConfigurationError(
                        f"exchange_{name}_differs",
                        f"{path.name} was made with {name} {found}, and {value} is asked for",
                        f"start it with {name} {found}, or with another file",
                    )

    def save(self, changed: Sequence[Snapshot]) -> None:
        """Writes what changed, all or nothing, and returns when it is on the disk.

        Raises:
            StorageError: the disk refused; nothing of it counts.
        """
        with self._transaction() as connection:
            for each in changed:
                connection.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", each.orders)
                connection.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?)", each.accounts)
                connection.executemany(
                    "INSERT INTO executions (id, account, order_id, time_ns, document)"
                    " VALUES (?, ?, ?, ?, ?)",
                    each.executions,
                )
                connection.executemany(
                    "INSERT INTO activities (id, account, time_ns, document) VALUES (?, ?, ?, ?)",
                    each.activities,
                )
            if changed:
                facts = {"now_ns": changed[-1].now_ns} | changed[-1].counts
                connection.executemany(
                    "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                    [(name, str(value)) for name, value in facts.items()],
                )

    def restore(self, exchange: Exchange) -> bool:
        """Puts what was kept into a fresh exchange; returns whether there was anything.

        Raises:
            IntegrityError: what was kept does not fit together.
        """
        with self._reading() as connection:
            facts = dict(connection.execute("SELECT name, value FROM facts").fetchall())
            if "now_ns" not in facts:
                return False
            accounts = [
                msgspec.json.decode(document, type=Account)
                for (document,) in connection.execute("SELECT document FROM accounts")
            ]
            orders = [
                msgspec.json.decode(document, type=VenueOrder)
                for (document,) in connection.execute("SELECT document FROM orders ORDER BY sequence")
            ]
        if any(order.account not in exchange.registry.accounts for order in orders):
            raise IntegrityError(
                "exchange_account_missing",
                f"{self._path.name} holds orders of an account that is not configured",
                "start the exchange with the accounts that it had",
            )
        counts = {name: int(facts.get(name, "0")) for name in exchange.registry.counts}
        exchange.restore(int(facts["now_ns"]), accounts, orders, counts)
        return True

    def executions(
        self,
        account: str,
        *,
        order_id: str | None = None,
        after: int = 0,
        limit: int = 100,
        newest_first: bool,
    ) -> list[Execution]:
        """Returns executions of an account, after (or, newest first, before) the one of that number."""
        order = "DESC" if newest_first else "ASC"
        compare = "<" if newest_first and after else ">"
        of_order = "?2 IS NULL" if order_id is None else "order_id = ?2"  # apart, so that an index is used
        query = (
            f"SELECT document FROM executions WHERE account = ?1 AND {of_order}"  # noqa: S608 - constant words
            f" AND number {compare} ?3 ORDER BY number {order} LIMIT ?4"
        )
        with self._reading() as connection:
            rows = connection.execute(query, (account, order_id, after, limit)).fetchall()
        return [msgspec.json.decode(document, type=Execution) for (document,) in rows]

    def number_of(self, activity_id: str) -> int:
        """Returns the number of the execution that an activity's id ends with; 0 where there is none."""
        with self._reading() as connection:
            execution_id = activity_id.rpartition("::")[2]
            row = connection.execute("SELECT number FROM executions WHERE id = ?", (execution_id,)).fetchone()
        return int(row[0]) if row else 0

    def activities(self, account: str, limit: int = 100) -> list[Activity]:
        """Returns the newest activities of an account, newest first."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT document FROM activities WHERE account = ? ORDER BY number DESC LIMIT ?",
                (account, limit),
            ).fetchall()
        return [msgspec.json.decode(document, type=Activity) for (document,) in rows]

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as connection:
                yield connection
        except (sqlite3.Error, msgspec.DecodeError, msgspec.ValidationError) as error:
            raise self._unusable(error) from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
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
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            "exchange_file_unusable",
            f"the exchange's file {self._path.name} cannot be used ({error})",
            "check the disk and its permissions; what was acknowledged is in the file",
        )
