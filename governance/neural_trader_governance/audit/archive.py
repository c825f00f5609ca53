"""Archiving: old entries move out of desk.db into a verified export, and every proof stays.

What leaves the database is the bytes of whole bundles of 256 entries. Their leaf hashes, the tree,
the checkpoints and the search columns stay, and an `audit.archive` entry says what left. Each entry
read back from an archive folder is checked against the leaf hash in the database: the folder is
trusted for nothing. Nothing here ever deletes an archive; see RETENTION_YEARS.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from neural_trader_governance.audit import bundles, merkle
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import IntegrityError, StorageError

RETENTION_YEARS = 7
"""How long entries must be kept, wherever they are (the regulations ask for 5 or 6)."""
KEPT_TYPES = (
    EntryType.KEY_ROTATE,
    EntryType.KEY_ADD,
    EntryType.AUDIT_ARCHIVE,
    EntryType.POLICY_ACTIVATE,
    EntryType.PRINCIPAL_ENROLL,
    EntryType.PRINCIPAL_RETIRE,
    EntryType.APIKEY_ISSUE,
    EntryType.APIKEY_REVOKE,
    EntryType.MANDATE_ISSUE,
    EntryType.MANDATE_REVOKE,
    EntryType.BUDGET_SET,
    EntryType.OVERRIDE_GRANT,
    EntryType.LIVE_PERMIT,
    EntryType.LIVE_END,
    EntryType.OVERRIDE_REVOKE,
    EntryType.WITNESS_PIN,
    EntryType.KILL,
    EntryType.RESUME,
    EntryType.THROTTLE_TRIP,
    EntryType.THROTTLE_ENABLE,
    EntryType.TAINT_MARK,
    EntryType.TAINT_CLEAR,
)
"""Entries whose bytes never leave the database: checking the rest, and who may do what, depends on them."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit_archives (
  start INTEGER PRIMARY KEY, end INTEGER NOT NULL, folder TEXT NOT NULL,
  newest_time_us INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries [start, end) whose bytes lie in a folder, the newest of them `newest_time_us` old."""

    start: int
    end: int
    folder: Path
    newest_time_us: int


def read_segments(connection: sqlite3.Connection) -> list[Segment]:
    """Returns what was archived and where to, in order."""
    rows = connection.execute("SELECT start, end, folder, newest_time_us FROM audit_archives ORDER BY start")
    return [Segment(int(start), int(end), Path(folder), int(newest)) for start, end, folder, newest in rows]


def keep_until(newest: datetime) -> datetime:
    """Returns until when an archive must be kept whose newest entry is of this time."""
    try:
        return newest.replace(year=newest.year + RETENTION_YEARS)
    except ValueError:  # the 29th of February
        return newest.replace(year=newest.year + RETENTION_YEARS, month=3, day=1)


class Shelf:
    """Reads entries' bytes, from the database or from where they were archived to.

    Args:
        connection: Inside a transaction of the store.
        folder: Look here instead of in the folders that the database names.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path | None = None) -> None:
        self._connection = connection
        self._folder = folder
        self._segments: list[Segment] | None = None
        self._open: tuple[int, list[bytes]] = (-1, [])

    def read(self, seq: int, leaf_hash: bytes, stored: bytes) -> bytes:
        """Returns an entry's bytes.

        Args:
            seq: Its number.
            leaf_hash: As the database holds it.
            stored: Its bytes in the database; empty where they were archived.

        Raises:
            StorageError: `entry_archived`, the archive is not where it was.
            IntegrityError: the archive holds other bytes, or nothing says that it was archived.
        """
        if stored:
            return stored
        folder = self.folder_of(seq)
        data = self._find(folder, seq)
        if data is None:
            raise StorageError(
                "entry_archived",
                f"entry {seq} was archived, and its bytes are not in {folder}",
                "bring the archive back there, or give its folder (`--archive DIR`)",
            )
        if merkle.leaf_hash(data) != leaf_hash:
            raise IntegrityError(
                "archive_altered",
                f"{folder} holds other bytes for entry {seq} than the log signed",
                "restore the archive from its copy; the log itself is not affected",
            )
        return data

    def folder_of(self, seq: int) -> Path:
        """Returns the folder in which an archived entry lies.

        Raises:
            IntegrityError: no archive covers it.
        """
        if self._segments is None:
            self._segments = read_segments(self._connection)
        for segment in self._segments:
            if segment.start <= seq < segment.end:
                return self._folder or segment.folder
        raise IntegrityError(
            "entry_missing",
            f"the bytes of entry {seq} are gone, and no archive holds them",
            "keep the files and run `neural-trader audit verify`",
        )

    def _find(self, folder: Path, seq: int) -> bytes | None:
        index, offset = divmod(seq, bundles.WIDTH)
        if self._open[0] != index:
            try:
                whole = (folder / bundles.tile_path("entries", index)).read_bytes()
            except OSError:
                return None
            self._open = (index, bundles.split_bundle(whole, bundles.WIDTH)[0])
        items = self._open[1]
        return items[offset] if offset < len(items) else None
