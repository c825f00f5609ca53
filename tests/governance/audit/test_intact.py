"""Intact: whatever is edited in a log that stands still, a server that begins finds it."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.intact import require_intact
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store

OpenStore = Callable[..., Store]
HIDE = "UPDATE audit_entries SET type = 'recon' WHERE type = 'kill'"


@pytest.fixture
def path(open_store: OpenStore, record: Callable[..., int], tmp_path: Path) -> Path:
    """A closed log of 40 entries; the 20th is about an order, the 30th of another type."""
    store = open_store()
    record(store, 20)
    with store.unit() as unit:
        odd = Caller("alice", 'a"gent\\')  # JSON escapes it
        entry = AuditEntry.by(odd, EntryType.BROKER_ACK, client_order_id="nt_1", payload={"type": "kill"})
        unit.append(entry)
    record(store, 9)
    with store.unit() as unit:
        unit.append(AuditEntry.by(Caller("alice", ""), EntryType.KILL, payload={"scope": "all"}))
    record(store, 9)
    with store.read() as connection:
        assert require_intact(connection) == 40
    store.close()
    return tmp_path / "desk.db"


@contextmanager
def reopened(
    open_store: OpenStore, path: Path, statement: str, *values: object
) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1
    with open_store().read() as connection:
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        HIDE,
        "UPDATE audit_entries SET type = 'kill' WHERE seq = 20",
        "UPDATE audit_entries SET agent = 'somebody' WHERE seq = 7",
        "UPDATE audit_entries SET client_order_id = NULL WHERE seq = 20",
        "UPDATE audit_entries SET client_order_id = 'nt_2' WHERE seq = 20",
        "UPDATE audit_entries SET client_order_id = 'nt_2' WHERE seq = 7",
        "UPDATE audit_entries SET entry = CAST(replace(CAST(entry AS TEXT), 'alice', 'alicf') AS BLOB)"
        " WHERE seq = 7",
        "UPDATE audit_entries SET entry = x'' WHERE seq = 30",
        "UPDATE audit_entries SET entry = x'', type = 'recon' WHERE seq = 30",
        "UPDATE audit_entries SET entry = CAST(replace(CAST(entry AS TEXT), 'kill', 'recon') AS BLOB),"
        " type = 'recon' WHERE seq = 30",
        "UPDATE audit_entries SET leaf_hash = zeroblob(32), entry = x'' WHERE seq = 7",
        "DELETE FROM audit_entries WHERE seq = 7",
    ],
)
def test_an_edited_entry_is_found_before_anybody_is_served(
    open_store: OpenStore, path: Path, statement: str
) -> None:
    with (
        reopened(open_store, path, statement) as connection,
        pytest.raises(IntegrityError, match="audit_log_altered"),
    ):
        require_intact(connection)


def test_an_entry_is_bare_only_where_the_log_says_that_it_was_archived(
    open_store: OpenStore, path: Path
) -> None:
    with open_store() as store, store.unit() as unit:
        payload = {"start": 0, "end": 20}
        unit.append(AuditEntry.by(Caller("alice", ""), EntryType.AUDIT_ARCHIVE, payload=payload))
    bare = "UPDATE audit_entries SET entry = x'' WHERE seq = ?"
    with reopened(open_store, path, bare, 19) as connection:
        assert require_intact(connection) == 41
    with (
        reopened(open_store, path, bare, 20) as connection,
        pytest.raises(IntegrityError, match="entry 20 is empty"),
    ):
        require_intact(connection)
