"""What is kept of a sweep: its record in research.db, its results in files beside it.

A part of the results is one Arrow file, written whole or not at all, named by the numbers of its
combinations. So what was finished when the process was killed is there, and what is missing is known.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_tools.backtest.ledger import OPEN_STATES, State, process_identity
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.sweeps.space import Space
from neural_trader_tools.backtest.sweeps.splits import Validation
from neural_trader_tools.engine.orders import ENGINE_VERSION

if TYPE_CHECKING:
    import polars as pl

PREFIX: Final = "sw-"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS backtest_sweeps (
    run_id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL,
    created_time TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
"""
_PART: Final = re.compile(r"^part-(\d{8})-(\d{8})\.arrow$")


class SweepRequest(BaseModel):
    """A sweep, complete: two equal requests on equal prices have equal results.

    Attributes:
        base: The backtest that is varied; its params are those that all combinations share.
        space: What is varied.
        objective: What is best, larger being better.
        validation: How it is judged out of sample; None: not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: BacktestRequest
    space: Space
    objective: Literal["sharpe_ratio", "sortino_ratio", "calmar_ratio", "return_total"] = "sharpe_ratio"
    validation: Validation | None = None


class SweepRecord(BaseModel):
    """One sweep: what was asked, how far it came, what it found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    request: SweepRequest
    agent: str = ""
    state: State = "queued"
    created_time: UtcTime
    finished_time: UtcTime | None = None
    as_of: UtcTime = Field(description="Prices were read as known at this time")
    engine: str = ENGINE_VERSION
    done: int = Field(default=0, description="Combinations finished, failed ones included")
    result: dict[str, Any] | None = Field(default=None, description="See conclusion.SweepResult")
    error: str | None = Field(default=None, description="`code: what; next step`")

    @property
    def progress(self) -> float:
        """Finished part, 0 … 1."""
        return 1.0 if self.state == "completed" else min(0.99, self.done / max(self.request.space.count, 1))


class SweepStore:
    """Records and results of sweeps; safe to call from any thread and several processes.

    Args:
        path: `research.db` of the home; results lie in the folder `sweeps` beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent / "sweeps"
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def put(self, record: SweepRecord) -> None:
        """Writes a record; this process owns it from now on."""
        with self._connect() as connection:
            connection.execute(
                "INSERT INTO backtest_sweeps VALUES (?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET "
                "owner = excluded.owner, state = excluded.state, record = excluded.record",
                (
                    record.run_id, process_identity(os.getpid()), record.state,
                    format_time(record.created_time), record.model_dump_json(),
                ),
            )  # fmt: skip

    def get(self, run_id: str) -> SweepRecord:
        """Returns a sweep.

        Raises:
            InputError: there is none (`unknown_run`).
        """
        with self._connect() as connection:
            row = connection.execute(
                "SELECT record FROM backtest_sweeps WHERE run_id = ?", (run_id,)
            ).fetchone()
        if row is None:
            raise InputError(
                "unknown_run", f"there is no sweep {run_id!r:.60}", "use the run_id of backtest_sweep"
            )
        return SweepRecord.model_validate_json(row[0])

    def take(self, run_id: str) -> SweepRecord:
        """Makes this process the owner of a sweep that nobody runs, and returns it as `queued`.

        Raises:
            InputError: `unknown_run`, `run_elsewhere`, or it is completed (`run_completed`).
        """
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT owner, state, record FROM backtest_sweeps WHERE run_id = ?", (run_id,)
            ).fetchone()
            if row is None:
                connection.execute("ROLLBACK")
                return self.get(run_id)  # raises
            owner, state, text = row
            if state in OPEN_STATES and is_alive(owner):
                raise InputError("run_elsewhere", f"{run_id} runs already", "wait for it with backtest_get")
            if state == "completed":
                raise InputError("run_completed", f"{run_id} is complete", "read it with backtest_get")
            record = SweepRecord.model_validate_json(text).model_copy(
                update={"state": "queued", "error": None, "finished_time": None}
            )
            connection.execute(
                "UPDATE backtest_sweeps SET owner = ?, state = ?, record = ? WHERE run_id = ?",
                (process_identity(os.getpid()), record.state, record.model_dump_json(), run_id),
            )
            connection.execute("COMMIT")
        return record

    def interrupt_orphans(self, moment: datetime) -> list[str]:
        """Marks open sweeps whose process is gone as interrupted, and returns their ids."""
        marked: list[str] = []
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute(
                "SELECT run_id, owner, record FROM backtest_sweeps WHERE state IN (?, ?)", OPEN_STATES
            ).fetchall()
            for run_id, owner, text in rows:
                if is_alive(owner):
                    continue
                record = interrupted(SweepRecord.model_validate_json(text), moment)
                connection.execute(
                    "UPDATE backtest_sweeps SET state = ?, record = ? WHERE run_id = ?",
                    (record.state, record.model_dump_json(), run_id),
                )
                marked.append(run_id)
            connection.execute("COMMIT")
        return marked

    def completed_and_left(self, limit: int = 200) -> list[SweepRecord]:
        """Returns the newest completed sweeps of processes that are gone, oldest first."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT owner, record FROM backtest_sweeps WHERE state = 'completed'"
                " ORDER BY rowid DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            SweepRecord.model_validate_json(text) for owner, text in reversed(rows) if not is_alive(owner)
        ]

    def write_part(self, run_id: str, first: int, last: int, frame: "pl.DataFrame") -> None:
        """Keeps the results of the combinations `first` to `last`; durable when this returns.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = self._folder / run_id
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    frame.write_ipc(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, folder / f"part-{first:08d}-{last:08d}.arrow")
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            place = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(place)
            finally:
                os.close(place)
        except OSError as error:
            raise StorageError(
                "sweep_not_written",
                f"results of {run_id} could not be written: {error.strerror or error}",
                "free some disk space, then resume the sweep",
            ) from error

    def parts(self, run_id: str) -> list[tuple[int, int, Path]]:
        """Returns (first, last, file) of every part, ascending; they do not overlap."""
        folder = self._folder / run_id
        named = [(_PART.match(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
        return sorted((int(match[1]), int(match[2]), path) for match, path in named if match)

    def interrupted(self) -> list[str]:
        """Returns the sweeps whose process ended before them, oldest first."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT run_id FROM backtest_sweeps WHERE state = 'interrupted' ORDER BY rowid"
            ).fetchall()
        return [row[0] for row in rows]

    def frames(
        self, run_id: str, columns: Sequence[str] | None = None, first: int = 0, last: int | None = None
    ) -> "Generator[pl.DataFrame]":
        """Yields the results part by part, in the order of the combinations.

        Args:
            run_id: Of the sweep.
            columns: To read; None: all.
            first: Parts that end before this combination are left out.
            last: And those that begin at this one or later.

        Raises:
            StorageError: a part cannot be read.
        """
        import polars as pl

        for begin, end, path in self.parts(run_id):
            if end <= first or (last is not None and begin >= last):
                continue
            try:
                yield pl.read_ipc(path.read_bytes(), columns=None if columns is None else list(columns))
            except (OSError, pl.exceptions.PolarsError) as error:
                raise StorageError(
                    "sweep_unreadable", f"{path.name} of {run_id}: {error}", "delete it and resume the sweep"
                ) from error

    def missing(self, run_id: str, count: int) -> list[tuple[int, int]]:
        """Returns the ranges [first, last) of combinations that have no result yet."""
        found: list[tuple[int, int]] = []
        begin = 0
        for first, last, _ in self.parts(run_id):
            if first > begin:
                found.append((begin, first))
            begin = max(begin, last)
        if begin < count:
            found.append((begin, count))
        return found

    def drop(self, run_id: str) -> None:
        """Deletes the results of a sweep, not its record."""
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

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


def interrupted(record: SweepRecord, moment: datetime) -> SweepRecord:
    """Returns a sweep whose process ended; what it finished is kept."""
    return record.model_copy(
        update={
            "state": "interrupted",
            "finished_time": moment,
            "error": f"interrupted: the process ended while this ran; resume {record.run_id} to go on",
        }
    )


def result_digest(record: SweepRecord) -> str:
    """Returns the SHA-256, in hex, of what was asked for and what came of it: an entry of the log holds it.

    An edit of the record, such as of its out-of-sample figures, so shows.
    """
    record = SweepRecord.model_validate_json(record.model_dump_json())  # as whoever reads it later has it
    told = {
        "run_id": record.run_id,
        "request": record.request.model_dump(mode="json"),
        "engine": record.engine,
        "as_of": format_time(record.as_of),
        "result": record.result,
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def is_sweep(run_id: str) -> bool:
    """Tells a sweep's id from a backtest's."""
    return run_id.startswith(PREFIX)


def is_alive(owner: str) -> bool:
    """Tells whether the process that wrote `owner` still runs."""
    return process_identity(int(owner.partition(":")[0])) == owner
