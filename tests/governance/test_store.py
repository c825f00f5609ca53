import os
import resource
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance import halts
from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import open_checkpoint
from neural_trader_governance.audit.entries import ENTRY_BYTES_MAX, AuditEntry, EntryType
from neural_trader_governance.audit.verify import verify_connection
from neural_trader_governance.errors import InputError, IntegrityError, RiskError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

OpenStore = Callable[..., Store]
Record = Callable[..., int]
ORDERS = "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT;"


def _entry(caller: Caller, **payload: Any) -> AuditEntry:
    return AuditEntry.by(caller, EntryType.ORDER_INTENT, payload=payload)


def test_a_fresh_log_has_a_signed_checkpoint_of_nothing(store: Store, signer: SigningKey) -> None:
    checkpoint = open_checkpoint(store.head().checkpoint, signer.verifying_key, origin=store.origin)
    assert (checkpoint.size, checkpoint.root) == (0, merkle.EMPTY_ROOT)


def test_a_receipt_binds_the_entry_to_a_signed_root(store: Store, caller: Caller, signer: SigningKey) -> None:
    with store.unit() as unit:
        seqs = [unit.append(_entry(caller, number=number)) for number in range(5)]
    receipt = unit.receipt(seqs[-1])
    checkpoint = open_checkpoint(receipt.checkpoint, signer.verifying_key)
    assert seqs == [0, 1, 2, 3, 4]
    assert checkpoint.size == 5
    assert receipt == store.receipt(4)
    assert store.head().root_hex == checkpoint.root.hex()


def test_rows_and_leaf_commit_together_and_roll_back_together(open_store: OpenStore, caller: Caller) -> None:
    store = open_store(schemas=[ORDERS])
    with store.unit() as unit:
        seq = unit.append(_entry(caller))
        unit.connection.execute("INSERT INTO orders VALUES ('a', ?)", (seq,))
    with pytest.raises(sqlite3.IntegrityError), store.unit() as unit:  # noqa: PT012 - a whole transaction
        unit.append(_entry(caller))
        unit.connection.execute("INSERT INTO orders VALUES ('a', 1)")
    with store.read() as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [("a", 0)]
        assert verify_connection(connection, store.vkey).size == 1
    with pytest.raises(StorageError, match="no_receipt"):
        unit.receipt(1)
    with store.unit() as unit:
        assert unit.append(_entry(caller)) == 1


def test_a_unit_that_appends_nothing_writes_no_checkpoint(open_store: OpenStore, record: Record) -> None:
    store = open_store(schemas=[ORDERS])
    record(store)
    before = store.head()
    with store.unit() as unit:
        unit.connection.execute("INSERT INTO orders VALUES ('a', 0)")
    assert store.head() == before


@pytest.mark.parametrize("payload", [{"price": 1.5}, {"quantity": 2**53}, {"größe": 1}])
def test_an_entry_without_a_canonical_form_is_refused_and_nothing_is_written(
    store: Store, caller: Caller, payload: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="not_canonical"), store.unit() as unit:
        unit.append(_entry(caller, **payload))
    assert store.head().size == 0


def test_an_entry_may_fill_a_tile_records_uint16_and_no_more(store: Store, caller: Caller) -> None:
    with store.unit() as unit:
        unit.append(_entry(caller, text="x"))
    with store.read() as connection:
        (data,) = connection.execute("SELECT entry FROM audit_entries").fetchone()
    fits = ENTRY_BYTES_MAX - len(data) + 1
    with store.unit() as unit:
        unit.append(_entry(caller, text="x" * fits))
    with pytest.raises(InputError, match="entry_too_large"), store.unit() as unit:
        unit.append(_entry(caller, text="x" * (fits + 1)))
    assert store.head().size == 2


def test_a_unit_inside_a_unit_is_refused_and_not_a_deadlock(store: Store) -> None:
    with pytest.raises(StorageError, match="nested_unit"), store.unit(), store.unit():
        pass


def test_an_ended_unit_takes_nothing_more(store: Store, caller: Caller) -> None:
    with store.unit() as unit:
        unit.append(_entry(caller))
    with pytest.raises(StorageError, match="unit_ended"):
        unit.append(_entry(caller))


def test_threads_share_one_log_and_no_entry_is_lost(store: Store, record: Record) -> None:
    threads = [threading.Thread(target=record, args=(store, 25)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        report = verify_connection(connection, store.vkey)
    assert (report.ok, report.size) == (True, 200)


def test_a_reader_sees_one_moment_and_cannot_write(store: Store, record: Record) -> None:
    record(store, 3)
    with store.read() as connection:
        count = "SELECT count(*) FROM audit_entries"
        assert connection.execute(count).fetchone() == (3,)
        record(store, 2)
        assert connection.execute(count).fetchone() == (3,)
    with pytest.raises(StorageError, match="audit_read_failed"), store.read() as connection:
        connection.execute("DELETE FROM audit_entries")


def test_a_log_of_another_key_is_refused(open_store: OpenStore, record: Record) -> None:
    record(open_store())
    with pytest.raises(IntegrityError, match="signature_missing"):
        open_store(signer=SigningKey.generate("desk.example/log"))


def test_a_refused_log_is_left_as_it_was(open_store: OpenStore, record: Record, tmp_path: Path) -> None:
    store = open_store()
    record(store)
    with pytest.raises(IntegrityError):
        open_store(signer=SigningKey.generate("desk.example/log"), schemas=[ORDERS])
    with store.read() as connection:
        assert connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'orders'").fetchone() is None


def test_a_log_of_another_origin_is_refused(open_store: OpenStore, record: Record) -> None:
    record(open_store())
    with pytest.raises(IntegrityError, match="foreign_checkpoint"):
        open_store(origin="other.example/log")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_entries WHERE seq = 6",
        "UPDATE audit_entries SET leaf_hash = zeroblob(32) WHERE seq = 6",
        "UPDATE audit_subtrees SET hash = zeroblob(32) WHERE number = 2",
        "DELETE FROM audit_subtrees WHERE number = 3",
        "DELETE FROM audit_checkpoints WHERE size = 7",
    ],
)
def test_a_log_whose_end_was_altered_is_not_extended(
    open_store: OpenStore, record: Record, tmp_path: Path, damage: str
) -> None:
    running = open_store()
    record(running, 7)
    with sqlite3.connect(tmp_path / "desk.db") as other:
        other.execute(damage)
    other.close()
    with pytest.raises(IntegrityError):
        open_store()
    if "audit_checkpoints" in damage:
        # The process that saw the log before notices at its next unit, and signs nothing.
        with pytest.raises(IntegrityError):
            record(running)


def test_a_shorter_history_with_valid_signatures_is_not_extended_by_who_saw_the_longer(
    open_store: OpenStore, record: Record, tmp_path: Path
) -> None:
    running = open_store()
    record(running, 4)
    with sqlite3.connect(tmp_path / "desk.db") as other:
        other.execute("DELETE FROM audit_entries WHERE seq >= 2")
        other.execute("DELETE FROM audit_checkpoints WHERE size > 2")
        other.execute("DELETE FROM audit_subtrees WHERE number IN (1, 2)")
    other.close()
    with pytest.raises(IntegrityError, match="shrank from 4 to 2"):
        record(running)
    # And a fork: the same length again, other entries. Only a witness helps who did not see it.
    record(open_store(), 3)
    with pytest.raises(IntegrityError, match="own history"):
        record(running)


def test_a_store_refuses_to_live_on_in_a_forked_child(store: Store, record: Record) -> None:
    record(store)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            record(store)
        except StorageError as error:
            os.write(writing, error.code.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"store_forked"
    os.close(reading)
    os.close(writing)


def test_a_full_disk_stops_the_store_for_good_and_loses_nothing_acknowledged(
    store: Store, record: Record, tmp_path: Path
) -> None:
    record(store, 20)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = (tmp_path / "desk.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 8192, limit[1]))
    acknowledged = store.head().size
    try:
        with pytest.raises(StorageError, match="audit_write_failed"):  # noqa: PT012 - until it fails
            while True:
                record(store)
                acknowledged += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(StorageError, match="audit_write_failed"):
        record(store)
    with store.read() as connection:
        report = verify_connection(connection, store.vkey)
    assert report.ok
    assert report.size == acknowledged


def test_a_file_that_is_no_database_is_refused(open_store: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "desk.db").write_bytes(b"not a database at all, but long enough to look" * 100)
    with pytest.raises(StorageError, match="store_unavailable"):
        open_store()


def test_the_database_is_readable_by_its_owner_only(store: Store, tmp_path: Path) -> None:
    assert (tmp_path / "desk.db").stat().st_mode & 0o777 == 0o600


def test_a_halt_stands_until_a_person_resumes_and_both_are_in_the_log(store: Store, caller: Caller) -> None:
    with store.unit() as unit:
        first = halts.halt(unit, reason="prices look wrong", caller=caller)
        again = halts.halt(unit, reason="still wrong", caller=caller)
    assert first == again
    with store.read() as connection:
        assert halts.read_halt(connection) == first
    with pytest.raises(RiskError, match="person_required"), store.unit() as unit:
        halts.resume(unit, caller=caller)
    with store.unit() as unit:
        halts.resume(unit, caller=Caller("alice", ""))
    with store.read() as connection:
        assert halts.read_halt(connection) is None
        types = [row[0] for row in connection.execute("SELECT type FROM audit_entries ORDER BY seq")]
    assert types == ["kill", "kill", "resume"]
    with pytest.raises(RiskError, match="not_halted"), store.unit() as unit:
        halts.resume(unit, caller=Caller("alice", ""))


def test_a_halt_of_one_process_is_seen_by_another(open_store: OpenStore, caller: Caller) -> None:
    here, there = open_store(), open_store()
    with here.unit() as unit:
        halts.halt(unit, reason="stop", caller=caller)
    with there.unit() as unit:
        assert halts.read_halt(unit.connection) is not None


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_a_halt_needs_a_reason_in_words(store: Store, caller: Caller, reason: str) -> None:
    with pytest.raises(InputError, match="invalid_reason"), store.unit() as unit:
        halts.halt(unit, reason=reason, caller=caller)
