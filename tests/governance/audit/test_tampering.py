# ruff: noqa: S608 - the statements are made of fixed names and numbers
"""The tamper suite: whatever is changed in an export or a database, a pinned key tells.

The log is small and has everything: several checkpoints, a key rotation with both keys' signatures, an
ML-DSA-44 signature under the newest checkpoint. `make faults` flips every byte of it; the fast part
flips every 31st. Nothing of the log's keys is known to the attacker here: what somebody with the keys
can do, only a witness can tell (test_witness_attacks).
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.bundles import join_bundle, split_bundle
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.examination import Pins
from neural_trader_governance.audit.key_files import KeyFiles, rotate_log_key
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_connection, verify_export
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

ORIGIN = "desk.example/log"
PERSON = Caller("alice", "bot")


@dataclass(frozen=True)
class Log:
    """An export, a database, and the keys that somebody pinned before."""

    folder: Path
    database: bytes
    pins: Pins
    size: int

    def is_whole(self) -> bool:
        return verify_export(self.folder, self.pins).ok


@pytest.fixture
def log(tmp_path: Path, signer: SigningKey, open_store: Callable[..., Store]) -> Log:
    (tmp_path / "keys").mkdir()
    files = KeyFiles(tmp_path / "keys")
    signer.save(files.key)
    files.vkey.write_text(signer.vkey)
    store = open_store(signer=files.signer())

    def add(count: int) -> None:
        for number in range(count):
            with store.unit() as unit:
                payload = {"number": number}
                entry = AuditEntry.by(
                    PERSON, EntryType.RECON, symbol="AAPL", client_order_id="o", payload=payload
                )
                unit.append(entry)

    add(4)
    rotate_log_key(store, files, caller=PERSON, overlap_entries=2)
    add(4)
    files.enable_mldsa()
    add(1)
    export(store, tmp_path / "out")
    store.snapshot(tmp_path / "copy.db")
    log = Log(tmp_path / "out", (tmp_path / "copy.db").read_bytes(), files.pins(), store.head().size)
    assert log.is_whole()
    return log


def _flips(data: bytes, every: int) -> Iterator[bytes]:
    for position in range(0, len(data), every):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 8
        yield bytes(altered)


def _files(log: Log) -> list[Path]:
    found = sorted(path for path in log.folder.rglob("*") if path.is_file() and path.name != "log.vkey")
    assert {path.relative_to(log.folder).parts[0] for path in found} == {"checkpoint", "checkpoints", "tile"}
    return found


def _flip_export(log: Log, every: int) -> int:
    flips = 0
    for path in _files(log):
        whole = path.read_bytes()
        for altered in _flips(whole, every):
            path.write_bytes(altered)
            assert not log.is_whole(), (path, flips)
            flips += 1
        path.write_bytes(whole)
    assert log.is_whole()
    return flips


def test_flipped_bytes_of_an_export_are_noticed(log: Log) -> None:
    flips = _flip_export(log, every=31)
    print(f"\n{flips} flips in an export, all noticed")  # noqa: T201 - a figure to be read
    assert flips > 250


@pytest.mark.slow
def test_every_flipped_byte_of_an_export_is_noticed(log: Log) -> None:
    flips = _flip_export(log, every=1)
    print(f"\n{flips} flips in an export, all noticed")  # noqa: T201 - a figure to be read
    assert flips == sum(path.stat().st_size for path in _files(log))
    assert flips > 11_000


@pytest.fixture
def connection(log: Log) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(log.database)
    assert verify_connection(connection, log.pins).ok
    yield connection
    connection.close()


def _flip_database(connection: sqlite3.Connection, pins: Pins, every: int) -> int:
    """Flips bytes of every cell that the verifier must watch, one at a time."""
    flips = 0
    for table, key, columns in (
        ("audit_entries", "seq", ("entry", "leaf_hash", "type", "agent", "symbol", "client_order_id")),
        ("audit_checkpoints", "size", ("note",)),
        ("audit_subtrees", "number", ("hash",)),
    ):
        for column in columns:
            query = (
                f"SELECT {key}, CAST({column} AS BLOB), typeof({column}) FROM {table} WHERE {column} NOTNULL"
            )
            for place, whole, kind in connection.execute(query).fetchall():
                change = f"UPDATE {table} SET {column} = CAST(? AS {kind.upper()}) WHERE {key} = ?"
                for altered in _flips(whole, every):
                    connection.execute("BEGIN")
                    assert connection.execute(change, (altered, place)).rowcount == 1
                    assert not verify_connection(connection, pins).ok, (table, column, place)
                    connection.execute("ROLLBACK")
                    flips += 1
    assert verify_connection(connection, pins).ok
    return flips


def test_flipped_bytes_of_a_database_are_noticed(log: Log, connection: sqlite3.Connection) -> None:
    flips = _flip_database(connection, log.pins, every=31)
    print(f"\n{flips} flips in a database, all noticed")  # noqa: T201 - a figure to be read
    assert flips > 250


@pytest.mark.slow
def test_every_flipped_byte_of_a_database_is_noticed(log: Log, connection: sqlite3.Connection) -> None:
    flips = _flip_database(connection, log.pins, every=1)
    print(f"\n{flips} flips in a database, all noticed")  # noqa: T201 - a figure to be read
    assert flips > 8_000


def test_rows_that_are_missing_moved_or_doubled_are_noticed(log: Log, connection: sqlite3.Connection) -> None:
    changes = [
        *(f"DELETE FROM audit_entries WHERE seq = {seq}" for seq in range(log.size)),
        *(f"DELETE FROM audit_entries WHERE seq >= {seq}" for seq in range(log.size)),
        *(f"DELETE FROM audit_subtrees WHERE number = {number}" for number in range(3)),
        *(f"UPDATE audit_entries SET seq = {seq + 100} WHERE seq = {seq}" for seq in range(log.size)),
        *(f"UPDATE audit_entries SET time_us = time_us + 1 WHERE seq = {seq}" for seq in range(log.size)),
        *(f"UPDATE audit_entries SET entry = x'' WHERE seq = {seq}" for seq in range(log.size)),
        *(f"UPDATE audit_checkpoints SET size = size + 100 WHERE size = {size}" for size in range(log.size)),
        f"DELETE FROM audit_checkpoints WHERE size = {log.size}",
        "INSERT INTO audit_subtrees VALUES (999, zeroblob(32))",
        *(
            f"INSERT INTO audit_entries SELECT {log.size}, time_us, type, agent, symbol, client_order_id,"
            f" leaf_hash, entry FROM audit_entries WHERE seq = {seq}"
            for seq in range(log.size)
        ),
        *(
            "UPDATE audit_entries SET (entry, leaf_hash) = (SELECT entry, leaf_hash FROM audit_entries e"
            f" WHERE e.seq = {seq + 1}) WHERE seq = {seq}"
            for seq in range(log.size - 1)
        ),
    ]
    for change in changes:
        connection.execute("BEGIN")
        assert connection.execute(change).rowcount > 0, change
        assert not verify_connection(connection, log.pins).ok, change
        connection.execute("ROLLBACK")
    assert len(changes) > 60


def _rewrite(log: Log, entries: list[bytes]) -> None:
    """Puts other entries into an export, with tiles that fit them, as an attacker without the key can."""
    tile = log.folder / "tile"
    shutil.rmtree(tile)
    count = len(entries)
    for kind, data in (
        ("entries", join_bundle(entries)),
        ("0", b"".join(merkle.leaf_hash(entry) for entry in entries)),
    ):
        (tile / kind / "000.p").mkdir(parents=True)
        (tile / kind / "000.p" / str(count)).write_bytes(data)


def test_entries_cut_off_reordered_doubled_or_dropped_are_noticed_with_tiles_that_fit(log: Log) -> None:
    bundle = log.folder / "tile" / "entries" / "000.p" / str(log.size)
    entries, _ = split_bundle(bundle.read_bytes(), log.size)
    _rewrite(log, entries)
    assert log.is_whole()
    attempts = [entries[:length] for length in range(log.size)]
    attempts += [[*entries[:place], *entries[place + 1 :]] for place in range(log.size)]
    attempts += [[*entries[: place + 1], *entries[place:]] for place in range(log.size)]
    for place in range(log.size - 1):
        swapped = [*entries]
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        attempts.append(swapped)
        attempts.append([*entries[:place], entries[place + 1], *entries[place + 1 :]])
    for attempt in attempts:
        _rewrite(log, attempt)
        assert not log.is_whole()
        checkpoint = log.folder / "checkpoint"
        whole = checkpoint.read_text()
        # Nor does it help to say the new size.
        checkpoint.write_text(whole.replace(f"\n{log.size}\n", f"\n{len(attempt)}\n", 1))
        assert not log.is_whole() or len(attempt) == log.size
        checkpoint.write_text(whole)
    assert len(attempts) == 5 * log.size - 2


def test_every_file_cut_off_at_every_byte_is_noticed(log: Log) -> None:
    cuts = 0
    for path in _files(log):
        whole = path.read_bytes()
        for length in range(0, len(whole), 1 if len(whole) < 1_000 else 23):
            path.write_bytes(whole[:length])
            assert not log.is_whole(), (path, length)
            cuts += 1
        path.write_bytes(whole + b"\n")
        assert not log.is_whole(), path
        path.unlink()
        if path.name != "checkpoint":
            assert not log.is_whole(), path
        path.write_bytes(whole)
    assert cuts > 700


def test_earlier_checkpoints_dropped_doubled_or_swapped_are_noticed(log: Log) -> None:
    (path,) = (log.folder / "checkpoints" / "000.p").iterdir()
    count = int(path.name)
    notes, fault = split_bundle(path.read_bytes(), count)
    assert fault == ""
    attempts = [[*notes[:place], *notes[place + 1 :]] for place in range(count)]
    attempts += [[*notes[: place + 1], *notes[place:]] for place in range(count)]
    attempts += [
        [*notes[:place], notes[place + 1], notes[place], *notes[place + 2 :]] for place in range(count - 1)
    ]
    for attempt in attempts:
        path.write_bytes(join_bundle(attempt))
        assert not log.is_whole()
    assert len(attempts) == 3 * count - 1


def test_base64_that_is_not_canonical_is_refused_wherever_it_is_signed(log: Log) -> None:
    path = log.folder / "checkpoint"
    whole = path.read_text()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    tried = 0
    for line in whole.split("\n"):
        encoded = line.rpartition(" ")[2]
        if not encoded.endswith("="):
            continue
        padding = len(encoded) - len(encoded.rstrip("="))
        last = alphabet.index(encoded[-padding - 1])
        # The spare bits under the padding: other spellings of the same bytes.
        spellings = [
            encoded[: -padding - 1] + alphabet[last | spare] + "=" * padding for spare in range(1, 4**padding)
        ]
        spellings += [encoded.rstrip("="), encoded + "=", encoded + "====", f" {encoded}", encoded + " "]
        spellings += [encoded.replace("+", "-").replace("/", "_")] if "+" in encoded or "/" in encoded else []
        for spelling in spellings:
            path.write_text(whole.replace(encoded, spelling, 1))
            assert not log.is_whole(), spelling
            tried += 1
    path.write_text(whole)
    assert log.is_whole()
    assert tried >= 20
