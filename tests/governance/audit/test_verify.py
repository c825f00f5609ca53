import shutil
import sqlite3
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.verify import AuditReport, verify_store
from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

Record = Callable[..., int]


@pytest.fixture
def copy(store: Store, record: Record, tmp_path: Path) -> Path:
    record(store, 9)
    path = tmp_path / "copy.db"
    store.snapshot(path)
    return path


def _alter(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
    connection.close()


def _first(report: AuditReport) -> tuple[int | None, str]:
    assert not report.ok
    return report.problems[0].seq, report.problems[0].what


def test_a_whole_log_verifies_and_is_left_untouched(copy: Path, store: Store) -> None:
    before, names = sha256(copy.read_bytes()).hexdigest(), sorted(copy.parent.iterdir())
    report = verify_store(copy, store.vkey)
    assert report == AuditReport(True, 9, store.head().root_hex, ())
    assert sha256(copy.read_bytes()).hexdigest() == before
    assert sorted(copy.parent.iterdir()) == names


def test_a_plain_file_copy_with_its_write_ahead_log_holds_the_newest_commits(
    store: Store, record: Record, tmp_path: Path
) -> None:
    record(store, 9)
    for name in ("desk.db", "desk.db-wal"):
        shutil.copyfile(tmp_path / name, tmp_path / f"plain-{name}")
    report = verify_store(tmp_path / "plain-desk.db", store.vkey)
    assert (report.ok, report.size) == (True, 9)


def test_a_live_store_verifies_while_it_is_written(store: Store, record: Record, tmp_path: Path) -> None:
    stop = threading.Event()
    record(store)

    def write() -> None:
        while not stop.is_set():
            record(store, 10)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = [verify_store(tmp_path / "desk.db", store.vkey) for _ in range(15)]
    finally:
        stop.set()
        writer.join()
    assert all(report.ok for report in sizes)
    assert sizes[-1].size > 0


def test_every_flipped_byte_of_every_entry_is_named_by_its_seq(copy: Path, store: Store) -> None:
    whole = copy.read_bytes()
    with sqlite3.connect(copy) as connection:
        entries = connection.execute("SELECT seq, entry FROM audit_entries").fetchall()
    connection.close()
    flips = 0
    for seq, entry in entries:
        start = whole.index(entry)
        for offset in range(0, len(entry), 1 if seq == 4 else 23):
            altered = bytearray(whole)
            altered[start + offset] ^= 1
            copy.write_bytes(altered)
            report = verify_store(copy, store.vkey)
            assert not report.ok
            assert [problem.seq for problem in report.problems] == [seq], offset
            flips += 1
    assert flips > 200


def test_an_entry_that_was_rewritten_with_its_leaf_hash_breaks_the_signed_root(
    copy: Path, store: Store
) -> None:
    with sqlite3.connect(copy) as connection:
        (data,) = connection.execute("SELECT entry FROM audit_entries WHERE seq = 5").fetchone()
        forged = data.replace(b'"number":5', b'"number":6')
        connection.execute(
            "UPDATE audit_entries SET entry = ?, leaf_hash = ? WHERE seq = 5",
            (forged, merkle.leaf_hash(forged)),
        )
    connection.close()
    seq, what = _first(verify_store(copy, store.vkey))
    assert seq == 5
    assert "subtree" in what or "root" in what


def test_a_log_rewritten_throughout_fails_without_the_key(copy: Path, store: Store) -> None:
    thief = SigningKey.generate("desk.example/log")
    with sqlite3.connect(copy) as connection:
        root = merkle.root_of(log.read_frontier(connection, 9))
        note = Checkpoint("desk.example/log", 9, root).sign([thief])
        connection.execute("UPDATE audit_checkpoints SET note = ? WHERE size = 9", (note,))
    connection.close()
    assert "not signed by" in _first(verify_store(copy, store.vkey))[1]
    assert verify_store(copy, thief.vkey).ok is False


@pytest.mark.parametrize(
    ("statements", "seq", "what"),
    [
        (["DELETE FROM audit_entries WHERE seq = 3"], 3, "missing"),
        (["DELETE FROM audit_entries WHERE seq = 8"], 8, "entries end here"),
        (["DELETE FROM audit_checkpoints WHERE size = 9"], 8, "beyond the newest checkpoint"),
        (["DELETE FROM audit_checkpoints"], None, "no checkpoint"),
        (["UPDATE audit_entries SET symbol = 'MSFT' WHERE seq = 2"], 2, "search columns"),
        (["UPDATE audit_entries SET time_us = time_us + 1 WHERE seq = 2"], 2, "search columns"),
        (["UPDATE audit_entries SET leaf_hash = zeroblob(32) WHERE seq = 2"], 2, "leaf hash"),
        (["UPDATE audit_subtrees SET hash = zeroblob(32) WHERE number = 1"], 3, "subtree 1/1"),
        (["INSERT INTO audit_subtrees VALUES (99, zeroblob(32))"], None, "subtree hashes"),
        (["UPDATE audit_checkpoints SET size = 99 WHERE size = 9"], None, "signed for the size 9"),
        (["UPDATE audit_checkpoints SET note = replace(note, '=', '') WHERE size = 4"], None, "checkpoint 4"),
        (
            [
                "UPDATE audit_entries SET entry = (SELECT entry FROM audit_entries WHERE seq = 1),"
                " leaf_hash = (SELECT leaf_hash FROM audit_entries WHERE seq = 1) WHERE seq = 2"
            ],
            2,
            "number 1",
        ),
    ],
)
def test_each_kind_of_tampering_is_named(
    copy: Path, store: Store, statements: list[str], seq: int | None, what: str
) -> None:
    _alter(copy, *statements)
    found, words = _first(verify_store(copy, store.vkey))
    assert what in words
    assert found == seq


def test_a_truncated_file_is_damage_and_not_a_crash(copy: Path, store: Store) -> None:
    whole = copy.read_bytes()
    for length in range(0, len(whole), 4096):
        copy.write_bytes(whole[:length])
        assert not verify_store(copy, store.vkey).ok


def test_a_byte_flipped_anywhere_in_the_log_tables_never_crashes_the_verifier(
    copy: Path, store: Store
) -> None:
    whole = copy.read_bytes()
    for position in range(0, len(whole), 397):
        altered = bytearray(whole)
        altered[position] ^= 0xFF
        copy.write_bytes(altered)
        verify_store(copy, store.vkey)


def test_what_is_missing_or_malformed_is_said(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StorageError, match="store_missing"):
        verify_store(tmp_path / "none.db", store.vkey)
    with pytest.raises(ConfigurationError, match="invalid_vkey"):
        verify_store(tmp_path / "desk.db", "nonsense")
