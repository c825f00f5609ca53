"""Key rotation, with real key files, real stores and other processes' views of the same home."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_trader_governance.audit import key_files
from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.examination import Pins
from neural_trader_governance.audit.key_files import KeyFiles, Rotated, rotate_log_key
from neural_trader_governance.audit.proofs import prove_entry, verify_proof
from neural_trader_governance.audit.rotation import KeyChain, read_rotation, rotation_entry, sign_rotation
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_export, verify_store
from neural_trader_governance.errors import ConfigurationError, InputError, IntegrityError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey, vkey_of
from neural_trader_governance.signing.mldsa import MldsaSigningKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.store import Store

ORIGIN = "desk.example/log"
PERSON = Caller("alice", "")
Record = Callable[..., int]


@pytest.fixture
def files(tmp_path: Path, signer: SigningKey) -> KeyFiles:
    folder = tmp_path / "keys"
    folder.mkdir()
    signer.save(folder / "log.key")
    (folder / "log.vkey").write_text(signer.vkey + "\n")
    return KeyFiles(folder)


@pytest.fixture
def process(files: KeyFiles, open_store: Callable[..., Store]) -> Callable[[], Store]:
    """Opens the home's store as one more process would, with the keys that it finds."""
    return lambda: open_store(signer=KeyFiles(files.key.parent).signer())


def _signers(note: str) -> list[str]:
    return [signature.key_id.hex() for signature in parse_note(note).signatures]


def _id(vkey: str) -> str:
    return VerifyingKey.parse(vkey).key_id.hex()


def _rotate(store: Store, files: KeyFiles, overlap: int = 3) -> Rotated:
    return rotate_log_key(store, files, caller=PERSON, overlap_entries=overlap)


def test_both_keys_sign_during_the_overlap_and_then_only_the_new_one(
    process: Callable[[], Store], files: KeyFiles, record: Record
) -> None:
    store = process()
    record(store, 2)
    done = _rotate(store, files)
    old, new = _id(done.old_vkey), _id(done.new_vkey)
    assert (done.seq, done.overlap_until) == (2, 6)
    assert _signers(store.head().checkpoint) == [new, old]
    for size in range(4, 10):
        record(store)
        assert _signers(store.head().checkpoint) == ([new, old] if size <= 6 else [new]), size
    assert files.vkey.read_text().strip() == done.new_vkey, "a replaced key is no longer what is trusted"
    assert (files.vkey.parent / f"log-{old}.vkey").read_text().strip() == done.old_vkey


def test_any_key_of_the_chain_verifies_the_whole_log_and_its_export_and_no_other_does(
    process: Callable[[], Store], files: KeyFiles, record: Record, tmp_path: Path
) -> None:
    store = process()
    record(store, 3)
    first = _rotate(store, files)
    record(store, 6)
    second = _rotate(store, files, overlap=0)
    record(store, 6)
    export(store, tmp_path / "out")
    for vkey in (first.old_vkey, first.new_vkey, second.new_vkey):
        report = verify_store(tmp_path / "desk.db", vkey)
        assert (report.ok, report.size, report.checkpoints) == (True, 17, 18), report.problems
        assert verify_export(tmp_path / "out", vkey).ok
        with store.read() as connection:
            assert verify_proof(prove_entry(connection, 1), vkey).seq == 1
    stranger = SigningKey.generate(ORIGIN).vkey
    assert not verify_store(tmp_path / "desk.db", stranger).ok
    assert not verify_export(tmp_path / "out", stranger).ok
    with store.read() as connection, pytest.raises(IntegrityError):
        verify_proof(prove_entry(connection, 1), stranger)


def test_a_process_that_was_open_before_follows_at_its_next_commit(
    process: Callable[[], Store], files: KeyFiles, record: Record, tmp_path: Path
) -> None:
    one, other = process(), process()
    record(one)
    done = _rotate(one, files, overlap=0)
    record(other, 3)
    assert _signers(other.head().checkpoint) == [_id(done.new_vkey)]
    record(one)
    assert verify_store(tmp_path / "desk.db", done.old_vkey).ok


def test_a_process_that_cannot_find_the_new_key_signs_nothing(
    process: Callable[[], Store],
    open_store: Callable[..., Store],
    signer: SigningKey,
    files: KeyFiles,
    record: Record,
) -> None:
    stale = open_store(signer=signer)
    store = process()
    done = _rotate(store, files, overlap=0)
    size = store.head().size
    with pytest.raises(StorageError, match=f"log_key_missing.*{_id(done.new_vkey)}"):
        record(stale)
    assert store.head().size == size
    record(store)


def test_the_new_keys_file_is_private_before_the_log_names_it(
    process: Callable[[], Store], files: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = process()
    seen: list[str] = []
    unit = store.unit

    def watched() -> object:
        seen.append(oct(files.next.stat().st_mode & 0o777))
        return unit()

    monkeypatch.setattr(store, "unit", watched)
    done = _rotate(store, files)
    assert seen == ["0o600"]
    assert SigningKey.load(files.key).vkey == done.new_vkey
    assert SigningKey.load(files.key.parent / f"log-{_id(done.old_vkey)}.key").vkey == done.old_vkey
    assert not files.next.exists()


@pytest.mark.parametrize("step", ["save", "commit", "link", "replace"])
def test_a_crash_at_any_step_leaves_a_home_that_works_and_a_rotation_that_can_be_repeated(
    process: Callable[[], Store],
    files: KeyFiles,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    tmp_path: Path,
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    store = process()
    pinned = store.vkey
    record(store, 2)
    with monkeypatch.context() as patch:
        if step == "save":
            patch.setattr(store, "unit", crash)  # after the file was written, before anything was committed
        elif step == "commit":
            patch.setattr(files, "settle", _after(files.settle, crash))
        else:
            patch.setattr(key_files.os, step, crash)
        with pytest.raises(Crash):
            _rotate(store, files)
    again = process()
    record(again, 2)
    assert verify_store(tmp_path / "desk.db", pinned).ok
    _rotate(again, KeyFiles(files.key.parent))
    record(process(), 5)
    assert verify_store(tmp_path / "desk.db", pinned).ok
    with again.read() as connection:
        current = again.signer.chain(connection, ORIGIN).current.vkey
    assert SigningKey.load(files.key).vkey == current
    assert not files.next.exists()


def _after(settle: Callable[..., None], crash: Callable[..., None]) -> Callable[..., None]:
    calls: list[int] = []

    def run(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > 1:  # the first one comes before the rotation
            crash()
        settle(*arguments)

    return run


def test_a_rotation_that_the_key_in_force_did_not_sign_is_a_problem_that_names_the_entry(
    store: Store, open_store: Callable[..., Store], signer: SigningKey, record: Record, tmp_path: Path
) -> None:
    record(store, 4)
    thief, new = SigningKey.generate(ORIGIN), SigningKey.generate(ORIGIN)
    forged = sign_rotation(thief, new, origin=ORIGIN, overlap_entries=0)
    forged = forged.model_copy(update={"old_vkey": signer.vkey})
    with pytest.raises(StorageError, match=r"entry 4.*did not sign it"), store.unit() as unit:
        unit.append(rotation_entry(forged, PERSON))
    store = open_store()

    # The thief writes the file himself, past the store, and signs what follows with his new key.
    class Gullible:
        def __getattr__(self, name: str) -> object:
            return getattr(store.signer, name)

        def sign(self, _: sqlite3.Connection, checkpoint: Checkpoint) -> str:
            return checkpoint.sign([new, signer])

    store._writer._signer = Gullible()  # type: ignore[assignment]  # pyright: ignore
    with store.unit() as unit:
        unit.append(rotation_entry(forged, PERSON))
    store.snapshot(tmp_path / "copy.db")
    report = verify_store(tmp_path / "copy.db", signer.vkey)
    assert not report.ok
    assert report.problems[0].seq == 4
    assert "did not sign it" in report.problems[0].what
    assert not verify_store(tmp_path / "copy.db", new.vkey).ok


def test_a_statement_binds_every_field_both_keys_and_the_log() -> None:
    old, new = SigningKey.generate(ORIGIN), SigningKey.generate(ORIGIN)
    rotation = sign_rotation(old, new, origin=ORIGIN, overlap_entries=5)
    assert rotation.check(ORIGIN, old.verifying_key) == new.verifying_key
    assert read_rotation(rotation_entry(rotation, PERSON)) == rotation
    other = SigningKey.generate(ORIGIN)
    for change in (
        {"overlap_entries": 6},
        {"origin": "another/log"},
        {"new_vkey": other.vkey},
        {"old_vkey": other.vkey},
        {"old_signature": rotation.new_signature},
        {"new_signature": rotation.old_signature},
        {"new_vkey": "nonsense"},
    ):
        with pytest.raises(IntegrityError, match="invalid_rotation"):
            rotation.model_copy(update=change).check(ORIGIN, old.verifying_key)
    with pytest.raises(IntegrityError):
        rotation.check("another/log", old.verifying_key)
    with pytest.raises(IntegrityError):
        rotation.check(ORIGIN, other.verifying_key)
    with pytest.raises(InputError, match="invalid_rotation"):
        sign_rotation(old, old, origin=ORIGIN, overlap_entries=5)
    with pytest.raises(InputError, match="invalid_rotation"):
        sign_rotation(old, new, origin=ORIGIN, overlap_entries=-1)


def test_a_key_that_was_replaced_never_returns(
    process: Callable[[], Store], files: KeyFiles, signer: SigningKey
) -> None:
    store = process()
    _rotate(store, files)
    with pytest.raises(InputError, match="cannot return"), store.unit() as unit:
        store.signer.rotate(unit, signer, origin=ORIGIN, caller=PERSON, overlap_entries=0)


def test_the_second_key_signs_in_every_process_from_the_next_commit_on_and_is_checked_where_pinned(
    process: Callable[[], Store], files: KeyFiles, record: Record, tmp_path: Path, signer: SigningKey
) -> None:
    one, other = process(), process()
    record(one, 2)
    vkey = files.enable_mldsa()
    assert files.mldsa_key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError, match="key_exists"):
        files.enable_mldsa()
    record(other, 2)
    record(one)
    pins = Pins.of(f"{signer.vkey}\n{vkey}")
    assert pins == files.pins() == one.signer.pins()
    export(one, tmp_path / "out")
    assert verify_store(tmp_path / "desk.db", pins).ok
    assert verify_export(tmp_path / "out", pins).ok
    with one.read() as connection:
        assert verify_proof(prove_entry(connection, 0), pins).seq == 0
    stranger = Pins(pins.log, MldsaSigningKey.generate(ORIGIN).verifying_key)
    assert "ML-DSA-44" in verify_store(tmp_path / "desk.db", stranger).problems[0].what
    with one.read() as connection, pytest.raises(IntegrityError, match="signature_missing"):
        verify_proof(prove_entry(connection, 0), stranger)
    # Once there, always there: a checkpoint without it, such as a thief of the first key makes, is named.
    os.unlink(files.mldsa_key)
    record(one)
    report = verify_store(tmp_path / "desk.db", pins)
    assert "checkpoint 6" in report.problems[0].what
    assert verify_store(tmp_path / "desk.db", signer.vkey).ok


def test_an_entry_of_the_type_without_a_rotation_in_it_does_not_commit(store: Store) -> None:
    with pytest.raises(StorageError, match="no rotation"), store.unit() as unit:
        unit.append(AuditEntry.by(PERSON, EntryType.KEY_ROTATE, payload={"rotation": "none"}))


@pytest.mark.parametrize("look", [1, 2])
def test_a_key_whose_file_moves_while_it_is_looked_for_is_found(
    process: Callable[[], Store], files: KeyFiles, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    store = process()

    def nothing(_: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(files, "settle", nothing)  # the rotating process has just committed
        done = _rotate(store, files)
    with store.read() as connection:
        chain = store.signer.chain(connection, ORIGIN)
    other, reads = KeyFiles(files.key.parent), list[Path]()

    def moving(path: Path) -> str:
        reads.append(path)
        if len(reads) == look:
            monkeypatch.undo()
            files.settle(chain)
        return vkey_of(path)

    monkeypatch.setattr(key_files, "vkey_of", moving)
    for vkey in (done.new_vkey, done.old_vkey):
        found = other.find(VerifyingKey.parse(vkey))
        assert found is not None
        assert found.vkey == vkey


def test_a_half_written_successor_neither_hides_the_other_keys_nor_is_taken_for_one(
    process: Callable[[], Store], files: KeyFiles, record: Record
) -> None:
    store = process()
    done = _rotate(store, files, overlap=100)
    files.next.write_text("PRIVATE+KEY+half")
    files.next.chmod(0o600)
    record(process())  # which needs the old key from its file too
    with pytest.raises(ConfigurationError, match="malformed"):
        files.find(SigningKey.generate(ORIGIN).verifying_key)
    assert files.find(VerifyingKey.parse(done.old_vkey)) is not None


def test_a_chain_does_not_follow_a_key_that_returns() -> None:
    one, two = SigningKey.generate(ORIGIN), SigningKey.generate(ORIGIN)
    chain = KeyChain(one.verifying_key)
    chain.admit(3, sign_rotation(one, two, origin=ORIGIN, overlap_entries=0), ORIGIN)
    with pytest.raises(IntegrityError, match="cannot return"):
        chain.admit(7, sign_rotation(two, one, origin=ORIGIN, overlap_entries=0), ORIGIN)
    assert chain.current == two.verifying_key


def test_a_key_that_was_replaced_within_the_commit_that_brought_it_is_a_link_like_any_other(
    open_store: Callable[..., Store], signer: SigningKey, record: Record, tmp_path: Path
) -> None:
    store = open_store(signer=LogSigner(signer))
    keys = [SigningKey.generate(ORIGIN) for _ in range(2)]
    record(store)
    with store.unit() as unit:
        old = signer
        for new in keys:
            unit.append(rotation_entry(sign_rotation(old, new, origin=ORIGIN, overlap_entries=0), PERSON))
            old = new
        unit.append(AuditEntry.by(PERSON, EntryType.RECON))  # past the overlap, in which two keys sign
        store.signer._keys[old.verifying_key] = old  # pyright: ignore[reportPrivateUsage]
    record(store)
    for key in (signer, *keys):
        assert verify_store(tmp_path / "desk.db", key.vkey).ok
