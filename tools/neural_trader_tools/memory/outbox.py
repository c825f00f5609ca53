"""The outbox of automatic capture: what is on record and may not yet be in the memory, and how far we are.

Its rows are written in the transaction that puts their memories on record, so that a process which dies
before the memory has them leaves word of it. Finished rows are kept for a while: the store of memories does
not sync its files, and after a power cut the last of them are put back from here.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

from pydantic import TypeAdapter

from neural_trader_memory.records import Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS memory_capture (
  one INTEGER PRIMARY KEY CHECK (one = 1), next_seq INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS memory_outbox (
  seq INTEGER PRIMARY KEY, done INTEGER NOT NULL, record TEXT NOT NULL) STRICT;
"""
KEPT_MAX: Final = 1_000
"""Finished rows that are kept, the newest."""

_RECORD = TypeAdapter(Record)


def read_cursor(connection: sqlite3.Connection) -> int | None:
    """Returns the first entry of the log that was not looked at; None where nobody ever began."""
    row = connection.execute("SELECT next_seq FROM memory_capture").fetchone()
    return None if row is None else int(row[0])


def write_cursor(connection: sqlite3.Connection, next_seq: int) -> None:
    """Writes down how far we are."""
    connection.execute(
        "INSERT INTO memory_capture VALUES (1, ?)"
        " ON CONFLICT (one) DO UPDATE SET next_seq = excluded.next_seq",
        (next_seq,),
    )


def add(connection: sqlite3.Connection, seq: int, record: Record) -> None:
    """Adds what the entry `seq` has just put on record."""
    text = _RECORD.dump_json(record).decode()
    connection.execute("INSERT INTO memory_outbox VALUES (?, 0, ?)", (seq, text))


def waiting(connection: sqlite3.Connection, *, finished_too: bool = False) -> list[tuple[int, Record]]:
    """Returns what may be missing from the memory, oldest first; with `finished_too` all that is kept."""
    rows = connection.execute(
        "SELECT seq, record FROM memory_outbox WHERE done <= ? ORDER BY seq", (int(finished_too),)
    ).fetchall()
    return [(int(seq), _RECORD.validate_json(text)) for seq, text in rows]


def finish(connection: sqlite3.Connection, seqs: Iterable[int]) -> None:
    """Notes that the memory has these, and forgets the oldest."""
    connection.executemany("UPDATE memory_outbox SET done = 1 WHERE seq = ?", [(seq,) for seq in seqs])
    connection.execute(
        "DELETE FROM memory_outbox WHERE done = 1 AND seq NOT IN"
        " (SELECT seq FROM memory_outbox ORDER BY seq DESC LIMIT ?)",
        (KEPT_MAX,),
    )
