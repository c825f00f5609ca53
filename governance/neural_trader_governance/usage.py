"""Usage: what calls cost, counted per principal, agent, strategy and day, in a file of its own.

A call reserves the most that it can cost before it begins and is charged what it did cost when it
ends. Both are one small transaction in `usage.db` (WAL, synchronous=NORMAL): a killed process loses
nothing that it wrote, a power cut may lose the last moments, and what a killed call had reserved stays
charged. Rows and bytes are counted and not priced: how many there are is known only afterwards.

A call that can cost nothing reserves nothing, and is counted together with others, within a second: a
killed process loses the counts of that second, and never an amount of money.
"""

import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import structlog
from pydantic import Field

from neural_trader_governance import database
from neural_trader_governance.errors import RiskError, StorageError
from neural_trader_governance.terms.money import DecimalText, format_decimal, from_micros
from neural_trader_governance.terms.term import Term

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
  agent TEXT NOT NULL, day TEXT NOT NULL, strategy TEXT NOT NULL, principal TEXT NOT NULL,
  calls INTEGER NOT NULL, sandbox_ms INTEGER NOT NULL, data_calls INTEGER NOT NULL,
  data_rows INTEGER NOT NULL, wall_ms INTEGER NOT NULL, result_bytes INTEGER NOT NULL,
  cost_micros INTEGER NOT NULL, PRIMARY KEY (agent, day, strategy, principal)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservations (
  reservation INTEGER PRIMARY KEY, agent TEXT NOT NULL, day TEXT NOT NULL, strategy TEXT NOT NULL,
  cost_micros INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS reservations_agent ON reservations (agent, day);
"""
_BUSY_TIMEOUT_S = 10.0
COUNTED_WITHIN_S = 1.0
"""The longest that the counts of calls which cost nothing wait to be written."""

log = structlog.get_logger(__name__)
_UNITS = ("calls", "sandbox_ms", "data_calls", "data_rows", "wall_ms", "result_bytes", "cost_micros")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a call used. `sandbox_ms` is the sandbox's own measure, `wall_ms` the gate's."""

    calls: int = 0
    sandbox_ms: int = 0
    data_calls: int = 0
    data_rows: int = 0
    wall_ms: int = 0
    result_bytes: int = 0

    def __add__(self, other: "Costs") -> "Costs":
        """Returns both together."""
        return Costs(
            self.calls + other.calls,
            self.sandbox_ms + other.sandbox_ms,
            self.data_calls + other.data_calls,
            self.data_rows + other.data_rows,
            self.wall_ms + other.wall_ms,
            self.result_bytes + other.result_bytes,
        )


class Prices(Term):
    """USD for each unit that is charged (setting `usage_prices`); the operator's, not a market's."""

    call: DecimalText = Field(default=Decimal(0), ge=0, le=1_000, description="A tool call")
    sandbox_s: DecimalText = Field(
        default=Decimal("0.0001"), ge=0, le=1_000, description="A second in the sandbox"
    )
    data_call: DecimalText = Field(
        default=Decimal("0.0001"), ge=0, le=1_000, description="A call that reads prices"
    )
    wall_s: DecimalText = Field(default=Decimal(0), ge=0, le=1_000, description="A second of a call")

    def micros(self, costs: Costs) -> int:
        """Returns what these costs come to in millionths of a USD, rounded up."""
        if not (costs.sandbox_ms or costs.data_calls or self.call or self.wall_s):
            return 0  # most calls; decimals take longer than all else that a call of no cost is charged
        usd = (
            self.call * costs.calls
            + self.sandbox_s * costs.sandbox_ms / 1000
            + self.data_call * costs.data_calls
            + self.wall_s * costs.wall_ms / 1000
        )
        return int((usd * 10**6).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who is charged: the principal, its agent, and the strategy's short digest where one is known."""

    principal: str
    agent: str
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """One budget as it stands: what may be spent between two days.

    Attributes:
        name: For people, such as `the budget of agent-1 for the day 2026-11-22`.
        strategy: Only what this strategy cost counts; None for everything of the agent.
        first_day: The period's first day, `2026-11-01`.
        last_day: And its last.
        limit_micros: In millionths of a USD.
    """

    name: str
    strategy: str | None
    first_day: str
    last_day: str
    limit_micros: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used; of one key, or summed over several."""

    agent: str
    day: str
    strategy: str
    principal: str
    calls: int = 0
    sandbox_ms: int = 0
    data_calls: int = 0
    data_rows: int = 0
    wall_ms: int = 0
    result_bytes: int = 0
    cost_micros: int = 0


class UsageLedger:
    """The counts of one home; safe for many threads and many processes."""

    def __init__(self, path: Path) -> None:
        """Opens the file, creating it where there is none.

        Raises:
            StorageError: it cannot be opened or is no usage ledger.
        """
        self.path = path
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._counted: dict[tuple[Attribution, str], Costs] = {}
        self._timer: threading.Timer | None = None
        self._failure: StorageError | None = None
        self._closed = False
        try:
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = NORMAL")
            database.prepare(self._connection, _SCHEMA, lambda: None)
        except sqlite3.Error as error:
            raise _unavailable(path, error) from error

    @contextmanager
    def _transaction(self, wait: bool = True) -> Generator[sqlite3.Connection]:
        if not self._lock.acquire(blocking=wait):
            raise BlockingIOError
        try:
            self._begin(wait)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _unavailable(self.path, error) from error
        finally:
            self._lock.release()

    def _begin(self, wait: bool) -> None:
        if wait:
            self._connection.execute("BEGIN IMMEDIATE")
            return
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise BlockingIOError from error
            raise
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000:.0f}")

    def reserve(
        self, who: Attribution, day: str, micros: int, bounds: Sequence[Bound] = (), *, wait: bool = True
    ) -> int:
        """Sets the most that a call can cost aside and returns the reservation, if no bound is used up.

        What runs counts in full, so that calls at once, of any number of processes, together exceed
        a bound by less than what the last one of them reserved.

        Args:
            who: Who calls.
            day: On which day.
            micros: The most that the call can cost.
            bounds: What must not be used up.
            wait: False where the event loop asks: it must not stand still for another's transaction.

        Raises:
            RiskError: `budget_exhausted`.
            StorageError: the file cannot be written.
            BlockingIOError: somebody else writes now, and `wait` is false; nothing was set aside.
        """
        with self._transaction(wait) as connection:
            for bound in bounds:
                used = _used(connection, who.agent, bound)
                if used >= bound.limit_micros:
                    raise RiskError(
                        "budget_exhausted",
                        f"{bound.name} is {usd_text(bound.limit_micros)} USD,"
                        f" and {usd_text(used)} USD is used or in flight",
                        "wait for the next period, or ask a person to run `neural-trader usage budget`",
                    )
            cursor = connection.execute(
                "INSERT INTO reservations (agent, day, strategy, cost_micros) VALUES (?, ?, ?, ?)",
                (who.agent, day, who.strategy, micros),
            )
            return int(cursor.lastrowid or 0)

    def settle(
        self,
        reservation: int,
        who: Attribution,
        day: str,
        costs: Costs,
        micros: int,
        *,
        wait: bool = True,
    ) -> None:
        """Charges what a call cost in place of what it had reserved; `wait` as in `reserve`.

        Raises:
            StorageError: the file cannot be written; the reservation stays charged.
            BlockingIOError: somebody else writes now, and `wait` is false; nothing was charged.
        """
        with self._transaction(wait) as connection:
            connection.execute("DELETE FROM reservations WHERE reservation = ?", (reservation,))
            _add(connection, who, day, costs, micros)

    def count(self, who: Attribution, day: str, costs: Costs) -> None:
        """Counts a call that cost nothing, within `COUNTED_WITHIN_S`, at the next look, or at the end.

        Raises:
            StorageError: the ledger is closed.
        """
        with self._counting:
            if self._closed:
                raise _unavailable(self.path, sqlite3.ProgrammingError("closed"))
            before = self._counted.get((who, day), Costs())
            self._counted[who, day] = before + costs
            if self._timer is None:
                self._timer = threading.Timer(COUNTED_WITHIN_S, self._flush_in_time)
                self._timer.daemon = True
                self._timer.start()

    def require_counting(self) -> None:
        """Passes where calls are counted; where the last counts could not be written, they are tried again.

        Raises:
            StorageError: they cannot be written.
        """
        if self._failure is not None or self._closed:
            self.flush()

    def flush(self) -> None:
        """Writes what was counted.

        Raises:
            StorageError: the file cannot be written; the counts are kept.
        """
        with self._counting:
            counted, self._counted = self._counted, {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not counted and self._failure is None and not self._closed:
            return
        try:
            with self._transaction() as connection:
                for (who, day), costs in counted.items():
                    _add(connection, who, day, costs, 0)
        except StorageError as error:
            self._failure = error
            with self._counting:
                for key, costs in counted.items():
                    self._counted[key] = self._counted.get(key, Costs()) + costs
            raise
        self._failure = None

    def _flush_in_time(self) -> None:
        try:
            self.flush()
        except StorageError as error:  # the next call that could be refused is, until it works again
            log.error("usage_not_recorded", error=str(error))

    def used_micros(self, agent: str, bound: Bound) -> int:
        """Returns what counts against a bound: what was charged, and what is reserved."""
        with self._transaction() as connection:
            return _used(connection, agent, bound)

    def rows(
        self, *, agent: str | None = None, strategy: str | None = None, since: str = "", until: str = "9999"
    ) -> list[UsageRow]:
        """Returns the counts by agent, day, strategy and principal, of whole days (`2026-11-22`)."""
        self.flush()
        with self._transaction() as connection:
            found = connection.execute(
                "SELECT * FROM usage WHERE day >= ? AND day <= ? AND (? IS NULL OR agent = ?)"
                " AND (? IS NULL OR strategy = ?) ORDER BY day, agent, strategy, principal",
                (since, until, agent, agent, strategy, strategy),
            ).fetchall()
        return [UsageRow(*row) for row in found]

    def reserved_micros(
        self, *, agent: str | None = None, strategy: str | None = None, since: str = ""
    ) -> int:
        """Returns what is reserved by calls in flight, and by calls whose process died."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT COALESCE(SUM(cost_micros), 0) FROM reservations"
                " WHERE day >= ? AND (? IS NULL OR agent = ?) AND (? IS NULL OR strategy = ?)",
                (since, agent, agent, strategy, strategy),
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Writes what was counted, and closes the file."""
        try:
            self._flush_in_time()
        finally:
            with self._counting:
                self._closed = True
            with self._lock:
                self._connection.close()


def usd_text(micros: int) -> str:
    """Returns an amount of micro-USD as a decimal string of USD."""
    return format_decimal(from_micros(micros))


def _add(connection: sqlite3.Connection, who: Attribution, day: str, costs: Costs, micros: int) -> None:
    sums = ", ".join(f"{unit} = {unit} + excluded.{unit}" for unit in _UNITS)
    connection.execute(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        f" ON CONFLICT (agent, day, strategy, principal) DO UPDATE SET {sums}",
        (
            who.agent,
            day,
            who.strategy,
            who.principal,
            costs.calls,
            costs.sandbox_ms,
            costs.data_calls,
            costs.data_rows,
            costs.wall_ms,
            costs.result_bytes,
            micros,
        ),
    )


def _used(connection: sqlite3.Connection, agent: str, bound: Bound) -> int:
    total = 0
    for table in ("usage", "reservations"):
        row = connection.execute(
            f"SELECT COALESCE(SUM(cost_micros), 0) FROM {table}"  # noqa: S608 - two constants
            " WHERE agent = ? AND day >= ? AND day <= ? AND (? IS NULL OR strategy = ?)",
            (agent, bound.first_day, bound.last_day, bound.strategy, bound.strategy),
        ).fetchone()
        total += int(row[0])
    return total


def _unavailable(path: Path, error: sqlite3.Error) -> StorageError:
    return StorageError(
        "usage_unavailable", f"{path.name} could not be used ({error})", "check the disk and the home folder"
    )
