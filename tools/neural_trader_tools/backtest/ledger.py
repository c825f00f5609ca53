"""The ledger: every backtest that was asked for, and every trial made on the data, in SQLite.

Several servers share one file. A run belongs to the process that started it; it is called interrupted
only when that process is gone.
"""

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_governance.terms.clocks import UtcTime, format_time, to_epoch_us
from neural_trader_tools.backtest.settings import BacktestRequest

State = Literal["queued", "running", "completed", "failed", "canceled", "interrupted"]
OPEN_STATES: Final = ("queued", "running")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS backtest_runs (
    run_id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL,
    created_time TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS backtest_trials (
    data_key TEXT NOT NULL, config_digest TEXT NOT NULL, sharpe_per_bar REAL, run_id TEXT NOT NULL,
    agent TEXT NOT NULL, created_time TEXT NOT NULL, PRIMARY KEY (data_key, config_digest)
) STRICT;
CREATE TABLE IF NOT EXISTS strategy_checks (
    source_digest TEXT PRIMARY KEY, violations INTEGER NOT NULL
) STRICT;
"""
# One look into the index for each key, however many trials it has.
_DISTINCT_KEYS: Final = """
WITH RECURSIVE keys(key) AS (
    SELECT min(data_key) FROM backtest_trials
    UNION ALL SELECT (SELECT min(data_key) FROM backtest_trials WHERE data_key > key) FROM keys
    WHERE key IS NOT NULL
) SELECT key FROM keys WHERE key IS NOT NULL
"""


class Handles(BaseModel):
    """Where the bulk of a result is kept; read it with artifact_read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    equity: str
    trades: str
    orders: str
    fills: str = ""


class BacktestRecord(BaseModel):
    """One run: what was asked, how far it came, what it found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    request: BacktestRequest
    agent: str = ""
    state: State = "queued"
    progress: float = Field(default=0.0, ge=0, le=1)
    created_time: UtcTime
    finished_time: UtcTime | None = None
    as_of: UtcTime = Field(description="Prices were read as known at this time")
    bars: int | None = None
    digest: str | None = None
    engine: str = Field(default="1", description="Engine of the digest; the first one did not say its name")
    metrics: dict[str, float | int | tuple[float, float] | None] | None = None
    warnings: tuple[str, ...] = ()
    handles: Handles | None = None
    output: str = Field(default="", description="The last that the strategy printed: a stranger's text")
    error: str | None = Field(default=None, description="`code: what; next step` of a failed run")


class Trial(NamedTuple):
    """One configuration that was tried, and how it did; None where its Sharpe ratio is undefined."""

    config_digest: str
    sharpe_per_bar: float | None


class RunLedger:
    """Runs and trials in a SQLite file; safe to call from any thread and several processes.

    Args:
        path: The file, `research.db` of the home; created where missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def put(self, record: BacktestRecord) -> None:
        """Writes a run, replacing what was known of it."""
        with self._connect() as connection:
            connection.execute(
                "INSERT INTO backtest_runs VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET "
                "owner = excluded.owner, state = excluded.state, record = excluded.record",
                (
                    record.run_id,
                    process_identity(os.getpid()),
                    record.state,
                    format_time(record.created_time),
                    record.model_dump_json(),
                ),
            )

    def get(self, run_id: str) -> BacktestRecord:
        """Returns a run.

        Raises:
            InputError: there is none (`unknown_run`), or it is a sweep (`run_is_a_sweep`).
        """
        with self._connect() as connection:
            row = connection.execute(
                "SELECT record FROM backtest_runs WHERE run_id = ?", (run_id,)
            ).fetchone()
            newest = connection.execute(
                "SELECT run_id FROM backtest_runs ORDER BY created_time DESC, rowid DESC LIMIT 3"
            ).fetchall()
        if row is None and run_id.startswith("sw-"):
            raise InputError(
                "run_is_a_sweep",
                f"{run_id:.60} is a sweep of many backtests",
                "run the combination that you mean with backtest_start (params and seed of its row in the"
                " sweep's table) and use that run_id",
            )
        if row is None:
            known = ", ".join(found[0] for found in newest)
            raise InputError(
                "unknown_run",
                f"there is no backtest {run_id!r:.60}",
                f"use the run_id of backtest_start{f' (newest: {known})' if known else ''}",
            )
        return BacktestRecord.model_validate_json(row[0])

    def interrupt_orphans(self, moment: datetime) -> list[str]:
        """Marks open runs whose process is gone as interrupted, and returns their ids."""
        marked: list[str] = []
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute(
                "SELECT run_id, owner, record FROM backtest_runs WHERE state IN (?, ?)", OPEN_STATES
            ).fetchall()
            for run_id, owner, text in rows:
                if _is_alive(owner):
                    continue
                record = BacktestRecord.model_validate_json(text).model_copy(
                    update={
                        "state": "interrupted",
                        "finished_time": moment,
                        "error": "interrupted: the server ended while this ran; start the backtest again",
                    }
                )
                connection.execute(
                    "UPDATE backtest_runs SET state = ?, record = ? WHERE run_id = ?",
                    (record.state, record.model_dump_json(), run_id),
                )
                marked.append(run_id)
            connection.execute("COMMIT")
        return marked

    def add_trial(
        self,
        data_key: str,
        config_digest: str,
        sharpe: float | None,
        record: BacktestRecord,
        moment: datetime,
    ) -> list[float | None]:
        """Counts a trial and returns the Sharpe ratios per bar of all *other* trials, see `trial_sharpes`.

        The same configuration run again is the same trial.
        """
        self.add_trials(data_key, [Trial(config_digest, sharpe)], record.run_id, record.agent, moment)
        return self.trial_sharpes(data_key, excluding=config_digest)

    def add_trials(
        self, data_key: str, trials: Sequence[Trial], record_run_id: str, agent: str, moment: datetime
    ) -> None:
        """Counts trials, all or none; a configuration that was counted before is not counted again.

        Args:
            data_key: What they were tried on, see `data_key`.
            trials: Each with its configuration; every combination of a sweep is one.
            record_run_id: The run or sweep that made them.
            agent: Who asked for it.
            moment: When it ended.
        """
        when = format_time(moment)
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO backtest_trials VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (data_key, trial.config_digest, trial.sharpe_per_bar, record_run_id, agent, when)
                    for trial in trials
                ],
            )
            connection.execute("COMMIT")

    def trial_sharpes(self, data_key: str, excluding: str | None = None) -> list[float | None]:
        """Returns the Sharpe ratio per bar of every trial that has seen some of the same data, oldest first.

        It has where it shares a symbol and its period overlaps, whoever made it; adding a symbol or moving
        the start by a day does not begin a new count. At another interval it counts with None: it was a
        try, but its Sharpe ratio is per another kind of bar.

        Args:
            data_key: See `data_key`.
            excluding: Digest of a configuration to leave out, the one that asks.
        """
        own = _DataKey.parse(data_key)
        with self._connect() as connection:
            connection.execute("BEGIN")
            keys = [row[0] for row in connection.execute(_DISTINCT_KEYS)]
            found: dict[str, tuple[int, float | None]] = {}
            for key in keys:
                other = _DataKey.parse(key)
                if not own.overlaps(other):
                    continue
                comparable = other.interval == own.interval
                for row, config, sharpe in connection.execute(
                    "SELECT rowid, config_digest, sharpe_per_bar FROM backtest_trials WHERE data_key = ?",
                    (key,),
                ):
                    if config != excluding:
                        found.setdefault(config, (row, sharpe if comparable else None))
            connection.execute("COMMIT")
        return [sharpe for _, sharpe in sorted(found.values(), key=lambda trial: trial[0])]

    def add_check(self, source: str, violations: int) -> None:
        """Remembers what a look-ahead test of some code found; what was found once is not forgotten."""
        with self._connect() as connection:
            connection.execute(
                "INSERT INTO strategy_checks VALUES (?, ?) ON CONFLICT (source_digest) DO UPDATE SET "
                "violations = max(violations, excluded.violations)",
                (hashlib.sha256(source.encode()).hexdigest(), violations),
            )

    def look_ahead(self, source: str) -> int | None:
        """Returns how many decisions of this code were seen to use later bars; None if nobody looked."""
        with self._connect() as connection:
            row = connection.execute(
                "SELECT violations FROM strategy_checks WHERE source_digest = ?",
                (hashlib.sha256(source.encode()).hexdigest(),),
            ).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            yield connection
        except sqlite3.Error as error:
            raise StorageError(
                "research_store", f"{self._path.name}: {error}", "check the disk and the file"
            ) from error
        finally:
            connection.close()


def data_key(
    symbols: Sequence[str], interval: str, start: datetime | None = None, end: datetime | None = None
) -> str:
    """Returns what a trial has seen: symbols, interval, and its period (epoch microseconds) if bounded."""
    if start is None and end is None:
        return json.dumps([sorted(symbols), interval])
    period = [None if moment is None else to_epoch_us(moment) for moment in (start, end)]
    return json.dumps([sorted(symbols), interval, *period])


class _DataKey(NamedTuple):
    symbols: frozenset[str]
    interval: str
    start: float
    end: float

    @classmethod
    def parse(cls, text: str) -> "_DataKey":
        symbols, interval, *period = json.loads(text)
        start, end = period or (None, None)
        return cls(
            frozenset(symbols),
            interval,
            -math.inf if start is None else start,
            math.inf if end is None else end,
        )

    def overlaps(self, other: "_DataKey") -> bool:
        return (
            not self.symbols.isdisjoint(other.symbols) and self.start < other.end and other.start < self.end
        )


def process_identity(pid: int) -> str:
    """Returns a process's id and start time, so that a reused id is not taken for the same process."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
        return f"{pid}:{fields[19]}"
    except (OSError, IndexError):
        return f"{pid}:"


def _is_alive(owner: str) -> bool:
    pid = int(owner.partition(":")[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_identity(pid) == owner
