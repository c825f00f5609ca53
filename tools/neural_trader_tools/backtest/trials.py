"""The trials: everything that was ever tried on the data, counted once each.

A trial is a configuration that came to something (Bailey & Lopez de Prado 2014: the chosen one is the best
of N, and what matters is how many others it was chosen from). The same one again, written otherwise, with
another seed that changed nothing or over newer prices, gave nothing more to choose from: it is the same
trial. The same one that came to something else on the same prices is another: it was another draw.
"""

import json
import math
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from neural_trader_governance.errors import StorageError
from neural_trader_governance.terms.clocks import format_time, to_epoch_us

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS backtest_trials (
    data_key TEXT NOT NULL, config_digest TEXT NOT NULL, sharpe_per_bar REAL, run_id TEXT NOT NULL,
    agent TEXT NOT NULL, created_time TEXT NOT NULL, seen TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (data_key, config_digest)
) STRICT;
"""
_WAL_ATTEMPTS: Final = 1_000
_WAL_PAUSE_S: Final = 0.01
_BY_OUTCOME: Final = "CREATE INDEX IF NOT EXISTS backtest_trials_seen ON backtest_trials (seen)"
# One look into the index for each key, however many trials it has.
_DISTINCT_KEYS: Final = """
WITH RECURSIVE keys(key) AS (
    SELECT min(data_key) FROM backtest_trials
    UNION ALL SELECT (SELECT min(data_key) FROM backtest_trials WHERE data_key > key) FROM keys
    WHERE key IS NOT NULL
) SELECT key FROM keys WHERE key IS NOT NULL
"""


class Trial(NamedTuple):
    """One configuration that was tried, and how it did.

    Attributes:
        config_digest: Of the configuration, its seed and its period, see `configuration.trial_of`.
        sharpe_per_bar: None where undefined.
        seen: Digest of the configuration without seed and period, and of the prices that it saw; empty where
            that is not known.
    """

    config_digest: str
    sharpe_per_bar: float | None
    seen: str = ""

    @property
    def outcome(self) -> str:
        """What it came to, to nine places: a sweep and a single run agree to twelve."""
        return "none" if self.sharpe_per_bar is None else f"{round(self.sharpe_per_bar, 9) + 0.0:.9f}"


class Trials:
    """Trials in a SQLite file; safe to call from any thread and several processes.

    Nothing here takes a trial away: what was seen stays seen, whatever becomes of its results.

    Args:
        path: The file, `research.db` of the home; created where missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(path) as connection:
            connection.executescript(_SCHEMA)
            _upgrade(connection)

    def add(
        self, data_key: str, trials: Sequence[Trial], run_id: str, agent: str, moment: datetime
    ) -> list[str]:
        """Counts trials, all or none, and returns the name under which each is counted.

        Args:
            data_key: What they were tried on, see `data_key`.
            trials: Each with its configuration; every combination of a sweep is one.
            run_id: The run or sweep that made them.
            agent: Who asked for it.
            moment: When it ended.
        """
        when = format_time(moment)
        names: list[str] = []
        with connected(self._path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for trial in trials:
                name, is_new = _place(connection, data_key, trial)
                names.append(name)
                if is_new:
                    connection.execute(
                        "INSERT INTO backtest_trials (data_key, config_digest, sharpe_per_bar, run_id, "
                        "agent, created_time, seen) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (data_key, name, trial.sharpe_per_bar, run_id, agent, when, _mark(trial)),
                    )
            connection.execute("COMMIT")
        return names

    def sharpes(self, data_key: str, excluding: str | None = None, run_id: str = "") -> list[float | None]:
        """Returns the Sharpe ratio per bar of every trial that has seen some of the same data, oldest first.

        It has where it shares a symbol and its period overlaps, whoever made it; adding a symbol or moving
        the start by a day does not begin a new count. At another interval it counts with None: it was a
        try, but its Sharpe ratio is per another kind of bar.

        Args:
            data_key: See `data_key`.
            excluding: Name of a trial to leave out, the one that asks.
            run_id: Leaves out what this run made, where its trial's name is not known.
        """
        own = _DataKey.parse(data_key)
        with connected(self._path) as connection:
            connection.execute("BEGIN")
            keys = [row[0] for row in connection.execute(_DISTINCT_KEYS)]
            found: dict[str, tuple[int, float | None]] = {}
            for key in keys:
                other = _DataKey.parse(key)
                if not own.overlaps(other):
                    continue
                comparable = other.interval == own.interval
                for row, config, sharpe in connection.execute(
                    "SELECT rowid, config_digest, sharpe_per_bar FROM backtest_trials "
                    "WHERE data_key = ? AND (? = '' OR run_id <> ?)",
                    (key, run_id, run_id),
                ):
                    if config != excluding:
                        found.setdefault(config, (row, sharpe if comparable else None))
            connection.execute("COMMIT")
        return [sharpe for _, sharpe in sorted(found.values(), key=lambda trial: trial[0])]


def _place(connection: sqlite3.Connection, data_key: str, trial: Trial) -> tuple[str, bool]:
    """Returns the name of a trial, and whether it is a new one."""
    if trial.seen:
        same = connection.execute(
            "SELECT config_digest FROM backtest_trials WHERE seen = ? LIMIT 1", (_mark(trial),)
        ).fetchone()
        if same is not None:  # written otherwise, or another seed that changed nothing
            return same[0], False
    row = connection.execute(
        "SELECT seen FROM backtest_trials WHERE data_key = ? AND config_digest = ?",
        (data_key, trial.config_digest),
    ).fetchone()
    if row is None:
        return trial.config_digest, True
    if not trial.seen or not row[0]:
        return trial.config_digest, False
    if row[0].partition(":")[0] == trial.seen:  # the same on the same prices came to something else
        return f"{trial.config_digest}:{trial.outcome}", True
    # newer prices: no other try, but what it comes to on them from now on is compared with this
    connection.execute(
        "UPDATE backtest_trials SET seen = ? WHERE data_key = ? AND config_digest = ?",
        (_mark(trial), data_key, trial.config_digest),
    )
    return trial.config_digest, False


def _mark(trial: Trial) -> str:
    return f"{trial.seen}:{trial.outcome}" if trial.seen else ""


def _upgrade(connection: sqlite3.Connection) -> None:
    """Adds what the table of an older version lacks; several processes may try at once."""
    connection.execute("BEGIN IMMEDIATE")
    columns = {row[1] for row in connection.execute("PRAGMA table_info(backtest_trials)")}
    if "seen" not in columns:
        connection.execute("ALTER TABLE backtest_trials ADD COLUMN seen TEXT NOT NULL DEFAULT ''")
    connection.execute(_BY_OUTCOME)
    connection.execute("COMMIT")


@contextmanager
def connected(path: Path) -> Generator[sqlite3.Connection]:
    """Opens research.db for a few statements; what fails is a `StorageError`."""
    connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    try:
        _write_ahead(connection)
        yield connection
    except sqlite3.Error as error:
        raise StorageError(
            "research_store", f"{path.name}: {error}", "check the disk and the file"
        ) from error
    finally:
        connection.close()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Sets the journal's mode; SQLite does not wait for others here, whatever the timeout says."""
    for _ in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(_WAL_PAUSE_S)
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


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
