"""The ledger: every backtest that was asked for, and what was found of its code, in SQLite.

Several servers share one file. A run belongs to the process that started it; it is called interrupted
only when that process is gone.
"""

import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_tools.backtest.configuration import source_digest
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.trials import Trials, connected

State = Literal["queued", "running", "completed", "failed", "canceled", "interrupted"]
OPEN_STATES: Final = ("queued", "running")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS backtest_runs (
    run_id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL,
    created_time TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS strategy_checks (
    source_digest TEXT PRIMARY KEY, violations INTEGER NOT NULL
) STRICT;
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
    trial: str = Field(default="", description="Name under which it is counted; older runs do not say")
    engine: str = Field(default="1", description="Engine of the digest; the first one did not say its name")
    metrics: dict[str, float | int | tuple[float, float] | None] | None = None
    warnings: tuple[str, ...] = ()
    handles: Handles | None = None
    output: str = Field(default="", description="The last that the strategy printed: a stranger's text")
    error: str | None = Field(default=None, description="`code: what; next step` of a failed run")


class RunLedger:
    """Runs in a SQLite file, and the trials beside them; safe to call from any thread and several processes.

    Args:
        path: The file, `research.db` of the home; created where missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trials = Trials(path)
        with connected(path) as connection:
            connection.executescript(_SCHEMA)

    def put(self, record: BacktestRecord) -> None:
        """Writes a run, replacing what was known of it."""
        with connected(self._path) as connection:
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
        with connected(self._path) as connection:
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

    def newest_ids(self, limit: int) -> list[str]:
        """Returns the ids of the newest runs and sweeps."""
        with connected(self._path) as connection:
            rows = connection.execute(
                "SELECT run_id, created_time FROM backtest_runs UNION ALL"
                " SELECT run_id, created_time FROM backtest_sweeps ORDER BY 2 DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [row[0] for row in rows]

    def completed_and_left(self, limit: int = 200) -> list[BacktestRecord]:
        """Returns the newest completed runs of processes that are gone, oldest first."""
        with connected(self._path) as connection:
            rows = connection.execute(
                "SELECT owner, record FROM backtest_runs WHERE state = 'completed'"
                " ORDER BY rowid DESC LIMIT ?",
                (limit,),
            ).fetchall()
        left = [text for owner, text in reversed(rows) if not _is_alive(owner)]
        return [BacktestRecord.model_validate_json(text) for text in left]

    def interrupt_orphans(self, moment: datetime) -> list[str]:
        """Marks open runs whose process is gone as interrupted, and returns their ids."""
        marked: list[str] = []
        with connected(self._path) as connection:
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

    def add_check(self, source: str, violations: int) -> None:
        """Remembers what a look-ahead test of some code found; what was found once is not forgotten.

        What is found holds for the code however it is laid out and commented; that nothing was found, for
        the very text only, because code can look at its own lines.
        """
        known = [_digest(source)]
        if violations:
            known.append(f"plain:{source_digest(source)}")
        with connected(self._path) as connection:
            connection.executemany(
                "INSERT INTO strategy_checks VALUES (?, ?) ON CONFLICT (source_digest) DO UPDATE SET "
                "violations = max(violations, excluded.violations)",
                [(digest, violations) for digest in known],
            )

    def look_ahead(self, source: str) -> int | None:
        """Returns how many decisions of this code were seen to use later bars; None if nobody looked."""
        with connected(self._path) as connection:
            (found,) = connection.execute(
                "SELECT max(violations) FROM strategy_checks WHERE source_digest IN (?, ?)",
                (_digest(source), f"plain:{source_digest(source)}"),
            ).fetchone()
        return found


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


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
