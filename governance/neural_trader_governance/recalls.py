"""Recalls: what an agent was shown of its memory, on record before it is shown, and named by its orders.

A recall is an entry of the log (`memory.recall`): the memories with their revisions and hashes, the digest of
the query, the store's version, the moment that was asked about. An order's entries list the newest of them,
so that nobody has to guess what an agent had in mind. Which ones follows from the log alone.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from pydantic import JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time, parse_time

SCHEMA = """
CREATE TABLE IF NOT EXISTS memory_recalls (
  seq INTEGER PRIMARY KEY, principal TEXT NOT NULL, agent TEXT NOT NULL, time TEXT NOT NULL,
  recall TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS memory_recalls_by_agent ON memory_recalls (agent, principal, seq);
"""
LISTED_MAX: Final = 8
"""Recalls that one order lists: the newest."""
WINDOW: Final = timedelta(hours=24)
"""What was recalled earlier is not listed."""
_HASH_CHARS: Final = 16


class RecallUnit(Protocol):
    """What a recall needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Recall:
    """One search of an agent in its memory, and what came of it.

    Attributes:
        query: SHA-256 of the words, in hex; the words themselves are not in the log.
        memories: `ID@REV:HASH` of each memory shown, best first; HASH is the head of its content hash.
        as_of: The moment that was asked about, as the server capped it.
        run_id: The backtest at whose clock was asked, or "".
        store_version: Of the memory's table when it was read.
    """

    query: str
    memories: tuple[str, ...]
    as_of: datetime
    run_id: str
    store_version: int


def digest_query(query: str) -> str:
    """Returns the SHA-256 of a query, in hex."""
    return hashlib.sha256(query.encode(errors="surrogatepass")).hexdigest()


def name_memory(memory_id: str, rev: int, content_hash: str) -> str:
    """Returns how a recall names one revision of a memory."""
    return f"{memory_id}@{rev}:{content_hash[:_HASH_CHARS]}"


def record(unit: RecallUnit, *, caller: Caller, recall: Recall, now: datetime) -> int:
    """Puts a recall on record and returns its entry's seq; the memories may be shown after the commit."""
    payload: dict[str, JsonValue] = {
        "query": recall.query,
        "memories": list(recall.memories),
        "as_of": format_time(recall.as_of),
        "run_id": recall.run_id,
        "store_version": recall.store_version,
        "time": format_time(now),
    }
    seq = unit.append(AuditEntry.by(caller, EntryType.MEMORY_RECALL, payload=payload))
    who = (caller.agent, caller.principal)
    unit.connection.execute(
        "INSERT INTO memory_recalls (seq, principal, agent, time, recall) VALUES (?, ?, ?, ?, ?)",
        (seq, caller.principal, caller.agent, payload["time"], json.dumps(payload)),
    )
    unit.connection.execute(  # what no order can list any more
        "DELETE FROM memory_recalls WHERE agent = ? AND principal = ? AND seq NOT IN"
        " (SELECT seq FROM memory_recalls WHERE agent = ? AND principal = ? ORDER BY seq DESC LIMIT ?)",
        (*who, *who, LISTED_MAX),
    )
    return seq


def listed(connection: sqlite3.Connection, caller: Caller, now: datetime) -> dict[str, JsonValue]:
    """Returns `{"recalled": …}` for an order's entry; nothing where the agent recalled nothing of late."""
    rows = connection.execute(
        "SELECT seq, recall FROM memory_recalls WHERE agent = ? AND principal = ? ORDER BY seq DESC LIMIT ?",
        (caller.agent, caller.principal, LISTED_MAX),
    ).fetchall()
    return summarize([(int(seq), json.loads(text)) for seq, text in reversed(rows)], now - WINDOW)


def summarize(
    recalls: Sequence[tuple[int, Mapping[str, JsonValue]]], since: datetime
) -> dict[str, JsonValue]:
    """Returns what an order lists of an agent's recalls; from the log's entries it gives the same.

    Args:
        recalls: Number and payload of the agent's recalls before the order, oldest first.
        since: Earlier ones are left out.
    """
    recent = [(seq, each) for seq, each in recalls if parse_time(str(each["time"])) >= since][-LISTED_MAX:]
    if not recent:
        return {}
    names: dict[str, None] = {}
    for _, each in recent:
        memories = each["memories"]
        names.update(dict.fromkeys(str(name) for name in memories) if isinstance(memories, list) else {})
    return {
        "recalled": {
            "memories": list(names),
            "seqs": [seq for seq, _ in recent],
            "queries": [str(each["query"])[:_HASH_CHARS] for _, each in recent],
            "store_versions": [each["store_version"] for _, each in recent],
            "times": [each["time"] for _, each in recent],
            "since": format_time(since),
        }
    }
