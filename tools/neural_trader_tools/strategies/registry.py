"""The registry: strategies by the digest of their source, so that a result always names the code it is of."""

import ast
import hashlib
import re
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from neural_trader_governance.errors import InputError, IntegrityError, StorageError, StrategyError
from neural_trader_governance.terms.clocks import Clock, WallClock, format_time, parse_time

SOURCE_MAX_BYTES: Final = 128 * 1024
DESCRIPTION_MAX: Final = 2_000
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 _.\-]{0,79}$")
_DIGEST: Final = re.compile(r"^[0-9a-f]{12,64}$")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS strategy_sources (
    strategy_id TEXT PRIMARY KEY, source TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS strategies (
    name TEXT NOT NULL, version INTEGER NOT NULL, strategy_id TEXT NOT NULL REFERENCES strategy_sources,
    description TEXT NOT NULL, created_time TEXT NOT NULL,
    PRIMARY KEY (name, version), UNIQUE (name, strategy_id)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class SavedStrategy:
    """One version of a named strategy. `strategy_id` is the SHA-256 of the source in UTF-8, 64 hex digits."""

    strategy_id: str
    name: str
    version: int
    source: str
    description: str
    created_time: datetime


class StrategyRegistry:
    """Strategies in a SQLite file that several processes may share; safe to call from any thread.

    Args:
        path: The file, `research.db` of the home; created where missing.
        clock: Where created_time comes from.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock: Clock = clock or WallClock()
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def save(self, name: str, source: str, description: str = "") -> SavedStrategy:
        """Saves a source under a name; the same source under the same name is the same version.

        Raises:
            InputError: the name, the description or the size is not acceptable.
            StrategyError: the source is not Python (`syntax_error`, with its line).
        """
        if not _NAME.match(name):
            raise InputError(
                "invalid_name",
                f"name {name!r:.60} is not acceptable",
                "use 1 to 80 ASCII letters, digits, space, . _ -",
            )
        if len(description) > DESCRIPTION_MAX:
            raise InputError(
                "description_too_long",
                f"the description has {len(description)} characters",
                f"use {DESCRIPTION_MAX}",
            )
        check_source(source)
        strategy_id = hashlib.sha256(source.encode()).hexdigest()
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(
                "SELECT version FROM strategies WHERE name = ? AND strategy_id = ?", (name, strategy_id)
            ).fetchone()
            if row is None:
                connection.execute(
                    "INSERT OR IGNORE INTO strategy_sources VALUES (?, ?)", (strategy_id, source)
                )
                connection.execute(
                    "INSERT INTO strategies SELECT ?, COALESCE(MAX(version), 0) + 1, ?, ?, ? "
                    "FROM strategies WHERE name = ?",
                    (name, strategy_id, description, format_time(self._clock.now()), name),
                )
            row = connection.execute(
                f"{_SELECT} WHERE name = ? AND s.strategy_id = ?", (name, strategy_id)
            ).fetchone()
            connection.execute("COMMIT")
        return _saved(row)

    def get(self, strategy_id: str) -> SavedStrategy:
        """Returns the newest entry of a digest, or of a prefix of at least 12 digits that names one source.

        Raises:
            InputError: there is none (`unknown_strategy`), or the prefix names several.
            IntegrityError: the stored source no longer has this digest.
        """
        rows: list[sqlite3.Row] = []
        if _DIGEST.match(strategy_id):
            with self._connect() as connection:
                rows = connection.execute(
                    f"{_SELECT} WHERE s.strategy_id >= ? AND s.strategy_id < ? "
                    "ORDER BY created_time DESC, version DESC",
                    (strategy_id, strategy_id + "g"),
                ).fetchall()
        found = [_saved(row) for row in rows]
        if len({strategy.strategy_id for strategy in found}) != 1:
            known = ", ".join(f"{s.name} v{s.version} = {s.strategy_id[:12]}" for s in self.list(limit=5))
            raise InputError(
                "unknown_strategy",
                f"{strategy_id!r:.80} names {'several strategies' if found else 'no saved strategy'}",
                f"use the strategy_id that strategy_save returned{f' (newest: {known})' if known else ''}",
            )
        if hashlib.sha256(found[0].source.encode()).hexdigest() != found[0].strategy_id:
            raise IntegrityError(
                "strategy_changed",
                f"the stored source of {found[0].strategy_id[:12]} no longer has its digest",
                "restore research.db from a backup, or save the strategy again",
            )
        return found[0]

    def list(self, limit: int = 100) -> list[SavedStrategy]:
        """Returns the newest entries first."""
        with self._connect() as connection:
            rows = connection.execute(
                f"{_SELECT} ORDER BY created_time DESC, name, version DESC LIMIT ?", (limit,)
            ).fetchall()
        return [_saved(row) for row in rows]

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            yield connection
        except sqlite3.Error as error:
            raise StorageError(
                "research_store", f"{self._path.name}: {error}", "check the disk and the file"
            ) from error
        finally:
            connection.close()


_SELECT: Final = (
    "SELECT s.strategy_id, name, version, source, description, created_time "
    "FROM strategies s JOIN strategy_sources USING (strategy_id)"
)


def check_source(source: str) -> None:
    """Checks size and syntax of a source, without running it.

    Raises:
        InputError: it is empty, too large, or holds what UTF-8 cannot.
        StrategyError: it is not Python (`syntax_error`).
    """
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        raise InputError(
            "source_not_utf8", "the source holds lone surrogates", "send valid UTF-8 text"
        ) from None
    if not source.strip():
        raise InputError("source_empty", "the source is empty", "strategy_get_api shows how to write one")
    if size > SOURCE_MAX_BYTES:
        raise InputError(
            "source_too_large", f"the source has {size:,} bytes", f"keep it below {SOURCE_MAX_BYTES:,}"
        )
    parse_source(source)


def parse_source(source: str) -> ast.Module:
    """Returns the syntax tree of a source.

    Raises:
        StrategyError: it is not Python (`syntax_error`, with the line in `facts`).
    """
    try:
        return ast.parse(source, filename="<strategy>")
    except SyntaxError as error:
        raise StrategyError(
            "syntax_error",
            f"line {error.lineno}: {error.msg}",
            "correct the syntax; strategy_get_api has examples that run",
            line=error.lineno,
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise StrategyError(
            "syntax_error", f"the source cannot be parsed: {str(error)[:100]}", "simplify it", line=None
        ) from None


def _saved(row: sqlite3.Row) -> SavedStrategy:
    return SavedStrategy(
        strategy_id=row["strategy_id"],
        name=row["name"],
        version=row["version"],
        source=row["source"],
        description=row["description"],
        created_time=parse_time(row["created_time"]),
    )
