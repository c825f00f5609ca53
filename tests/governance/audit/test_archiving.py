"""Archiving and proofs: old entries leave the database, and everything about them can still be shown."""

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neural_trader_governance.audit import archiving
from neural_trader_governance.audit.archive import keep_until, read_segments
from neural_trader_governance.audit.archiving import archive_entries
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.examination import AuditReport, Problem
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.audit.proofs import prove_entry, prove_receipt, verify_proof
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_export, verify_store
from neural_trader_governance.errors import InputError, IntegrityError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

PERSON = Caller("alice", "")


@pytest.fixture
def filled(store: Store, clock: SimulatedClock) -> Store:
    """700 entries, 100 a day."""
    for day in range(7):
        with store.unit() as unit:
            for number in range(100):
                payload = {"day": day, "number": number}
                unit.append(AuditEntry.by(PERSON, EntryType.RECON, symbol="AAPL", payload=payload))
        clock.advance(timedelta(days=1))
    return store


def _archive(store: Store, clock: SimulatedClock, folder: Path, keep_days: int) -> archiving.Archived:
    now = clock.now()
    return archive_entries(store, folder, before=now - timedelta(days=keep_days), now=now, caller=PERSON)


def test_what_says_who_may_do_what_stays_in_the_database(
    store: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    with store.unit() as unit:
        for _ in range(128):
            unit.append(AuditEntry.by(PERSON, EntryType.RECON))
            unit.append(AuditEntry.by(PERSON, EntryType.POLICY_ACTIVATE))
    clock.advance(timedelta(days=9))
    assert _archive(store, clock, tmp_path / "archive", keep_days=3).end == 256
    shutil.rmtree(tmp_path / "archive")
    with store.read() as connection:
        assert read_entry(connection, 1).type == EntryType.POLICY_ACTIVATE
        with pytest.raises(StorageError, match="entry_archived"):
            read_entry(connection, 0)


def test_an_archive_is_no_excuse_for_entries_that_never_leave(
    store: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    with store.unit() as unit:
        for _ in range(128):
            unit.append(AuditEntry.by(PERSON, EntryType.RECON))
            unit.append(AuditEntry.by(PERSON, EntryType.WITNESS_PIN, payload={"vkey": None}))
    clock.advance(timedelta(days=9))
    _archive(store, clock, tmp_path / "archive", keep_days=3)
    assert verify_store(tmp_path / "desk.db", store.vkey).ok
    store.snapshot(tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("UPDATE audit_entries SET entry = x'' WHERE seq = 3")
    (problem,) = verify_store(tmp_path / "copy.db", store.vkey).problems
    assert (problem.seq, "never leave" in problem.what) == (3, True)


def test_whole_bundles_of_old_entries_leave_and_everything_about_them_can_still_be_shown(
    filled: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    with filled.read() as connection:
        before = [read_entry(connection, seq) for seq in range(700)]
        proofs = [prove_entry(connection, seq, receipt=True) for seq in range(0, 700, 7)]
    done = _archive(filled, clock, tmp_path / "archive", keep_days=3)
    # 400 entries are older than three days: one whole bundle of 256.
    assert (done.start, done.end, done.folder) == (0, 256, tmp_path / "archive")
    assert done.bytes_freed > 256 * 100
    with filled.read() as connection:
        (kept,) = connection.execute("SELECT count(*) FROM audit_entries WHERE entry = x''").fetchone()
        assert kept == 256
        assert [read_entry(connection, seq) for seq in range(700)] == before
        assert read_entry(connection, 700).payload["end"] == 256
        assert [prove_entry(connection, seq, receipt=True) for seq in range(0, 700, 7)] == proofs
        assert verify_proof(prove_entry(connection, 5), filled.vkey).entry == before[5]
    report = verify_store(tmp_path / "desk.db", filled.vkey)
    assert (report.ok, report.size, report.unread) == (True, 701, 0)
    # A fresh export is whole: what left the database comes from the archive.
    export(filled, tmp_path / "out")
    assert verify_export(tmp_path / "out", filled.vkey).ok


def test_an_archiving_extends_the_last_one_and_does_nothing_where_nothing_is_old_enough(
    filled: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    assert _archive(filled, clock, tmp_path / "a", keep_days=6).end == 0
    assert _archive(filled, clock, tmp_path / "a", keep_days=3).end == 256
    second = _archive(filled, clock, tmp_path / "a", keep_days=0)
    assert (second.start, second.end) == (256, 512)
    again = _archive(filled, clock, tmp_path / "a", keep_days=0)
    assert (again.start, again.end) == (512, 512)
    with filled.read() as connection:
        assert [(part.start, part.end) for part in read_segments(connection)] == [(0, 256), (256, 512)]
    assert verify_store(tmp_path / "desk.db", filled.vkey).ok


def test_a_moved_archive_is_named_and_found_where_it_is_said_to_be(
    filled: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    _archive(filled, clock, tmp_path / "archive", keep_days=0)
    (tmp_path / "archive").rename(tmp_path / "cellar")
    with filled.read() as connection:
        with pytest.raises(StorageError, match=rf"entry_archived.*{tmp_path / 'archive'}.*--archive DIR"):
            read_entry(connection, 3)
        assert read_entry(connection, 3, folder=tmp_path / "cellar").seq == 3
        # The proof of a receipt needs no bytes.
        leaf = connection.execute("SELECT leaf_hash FROM audit_entries WHERE seq = 3").fetchone()[0]
        assert verify_proof(prove_receipt(connection, 3), filled.vkey, leaf_hash=leaf).seq == 3
    report = verify_store(tmp_path / "desk.db", filled.vkey)
    assert (report.ok, report.unread) == (True, 512)
    report = verify_store(tmp_path / "desk.db", filled.vkey, archive=tmp_path / "cellar")
    assert (report.ok, report.unread) == (True, 0)


def test_an_altered_archive_is_noticed_where_it_is_read(
    filled: Store, clock: SimulatedClock, tmp_path: Path
) -> None:
    _archive(filled, clock, tmp_path / "archive", keep_days=0)
    bundle = tmp_path / "archive" / "tile" / "entries" / "001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"number":77', b'"number":78', 1))
    report = verify_store(tmp_path / "desk.db", filled.vkey)
    assert not report.ok
    assert len(report.problems) == 1
    seq = report.problems[0].seq
    assert seq is not None
    with filled.read() as connection, pytest.raises(IntegrityError, match="archive_altered"):
        read_entry(connection, seq)


@pytest.mark.parametrize("claim", ["nothing", "a row", "an entry of another range"])
def test_bytes_that_are_gone_without_an_archive_entry_are_a_problem(
    filled: Store, clock: SimulatedClock, tmp_path: Path, claim: str
) -> None:
    if claim == "an entry of another range":
        _archive(filled, clock, tmp_path / "archive", keep_days=3)
    with filled.unit() as unit:
        unit.connection.execute("UPDATE audit_entries SET entry = x'' WHERE seq = 300")
        if claim == "a row":
            unit.connection.execute("INSERT INTO audit_archives VALUES (0, 512, '/nowhere', 0)")
    report = verify_store(tmp_path / "desk.db", filled.vkey)
    assert not report.ok
    assert report.problems[0].seq == 300


def test_nothing_leaves_the_database_unless_the_export_verified(
    filled: Store, clock: SimulatedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(*_: object) -> AuditReport:
        return AuditReport(False, 700, "", (Problem(3, "a disk that lies"),))

    monkeypatch.setattr(archiving, "verify_export", bad)
    with pytest.raises(IntegrityError, match="archive_not_whole"):
        _archive(filled, clock, tmp_path / "archive", keep_days=0)
    assert filled.head().size == 700
    with filled.read() as connection:
        assert connection.execute("SELECT count(*) FROM audit_entries WHERE entry = x''").fetchone() == (0,)
    with pytest.raises(InputError, match="invalid_before"):
        _archive(filled, clock, tmp_path / "archive", keep_days=-1)


def test_an_archive_is_kept_for_seven_years_from_its_newest_entry() -> None:
    assert keep_until(datetime(2024, 3, 1, tzinfo=UTC)) == datetime(2031, 3, 1, tzinfo=UTC)
    assert keep_until(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2031, 3, 1, tzinfo=UTC)


def test_every_changed_character_of_a_proof_is_noticed(filled: Store) -> None:
    with filled.read() as connection:
        text = prove_entry(connection, 123)
    lines = text.split("\n")
    tried = 0
    for place, line in enumerate(lines):
        for offset in range(len(line)):
            for other in "A1 ":
                if line[offset] == other:
                    continue
                changed = [*lines]
                changed[place] = line[:offset] + other + line[offset + 1 :]
                with pytest.raises(IntegrityError):
                    verify_proof("\n".join(changed), filled.vkey)
                tried += 1
    assert tried > 1_500
    for cut in range(0, len(text), 13):
        with pytest.raises((IntegrityError, InputError)):
            verify_proof(text[:cut], filled.vkey)


def test_a_proof_holds_for_its_own_entry_and_its_own_log_only(
    filled: Store, open_store: Callable[..., Store], tmp_path: Path, clock: SimulatedClock
) -> None:
    with filled.read() as connection:
        text = prove_entry(connection, 123)
        other = read_entry(connection, 124).encode()
        own = read_entry(connection, 123).encode()
    assert verify_proof(text, filled.vkey, entry=own).entry is not None
    with pytest.raises(IntegrityError, match="proof_invalid"):
        verify_proof(text, filled.vkey, entry=other)
    with pytest.raises(IntegrityError, match="proof_invalid"):
        verify_proof(text, filled.vkey, leaf_hash=bytes(32))
    with filled.read() as connection:
        short = prove_receipt(connection, 123)
        with pytest.raises(InputError, match="unknown_seq"):
            prove_entry(connection, 700)
        with pytest.raises(InputError, match="unknown_seq"):
            prove_receipt(connection, 700)
    with pytest.raises(InputError, match="entry_needed"):
        verify_proof(short, filled.vkey)
    assert verify_proof(short, filled.vkey, entry=own).seq == 123
