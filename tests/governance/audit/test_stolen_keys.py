"""What a thief of the log's key can make, before and after a rotation, and which pin notices.

The thief has the desk's files (everything in them is public to him) and one private key, that which
was in force first. The honest log has six entries of its first key, a rotation, and six of its second.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.governance.audit.forging import ORIGIN, PERSON, append

from neural_trader_governance.audit import merkle, witnessed
from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey, cosign
from neural_trader_governance.audit.key_files import KeyFiles, rotate_log_key
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.audit.proofs import (
    Extra,
    PlacedRotation,
    prove_entry,
    verify_proof,
    write_proof,
)
from neural_trader_governance.audit.rotation import read_rotations, rotation_entry
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_export, verify_store
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

BEFORE, AFTER = [f"before {n}" for n in range(6)], [f"after {n}" for n in range(6)]


@dataclass
class Honest:
    """The honest log, its keys, and what a witness cosigned of it last."""

    store: Store
    files: KeyFiles
    old: SigningKey
    new_vkey: str
    cosigned: str
    witness: WitnessKey


@pytest.fixture
def honest(
    tmp_path: Path, signer: SigningKey, witness_key: SigningKey, clock: SimulatedClock
) -> Iterator[Honest]:
    (tmp_path / "keys").mkdir()
    files = KeyFiles(tmp_path / "keys")
    signer.save(files.key)
    files.vkey.write_text(f"{signer.vkey}\n")
    with Store.open(tmp_path / "desk.db", origin=ORIGIN, signer=files.signer(), clock=clock) as store:
        for payload in BEFORE:
            append(store, [payload])
        rotated = rotate_log_key(store, files, caller=PERSON, overlap_entries=2)
        for payload in AFTER:
            append(store, [payload])
        note = store.head().checkpoint
        line = cosign(parse_note(note).text, witness_key, 1_700_000_000).line()
        yield Honest(store, files, signer, rotated.new_vkey, note + line, WitnessKey.of(witness_key))


class Thief(LogSigner):
    """Signs whatever it is given with the stolen key, whatever the log says about who should."""

    def sign(self, connection: object, checkpoint: Checkpoint) -> str:
        return checkpoint.sign(list(self._keys.values()))


def _cut_and_continued(store: Store, _: Honest) -> None:
    for payload in [*BEFORE, "never happened", *AFTER]:
        append(store, [payload])


def _rewritten(store: Store, _: Honest) -> None:
    for payload in ["never happened", *BEFORE[1:]]:
        append(store, [payload])


def _shorter(store: Store, _: Honest) -> None:
    append(store, BEFORE[:3])


def _rotation_replayed(store: Store, honest: Honest) -> None:
    """The hand-over is public, and says nothing about the tree: it stands at another place here."""
    append(store, [*BEFORE, "never happened"])
    with honest.store.read() as connection:
        ((_, rotation),) = read_rotations(connection)
    with store.unit() as unit:
        unit.append(rotation_entry(rotation, PERSON))


def _rotated_to_the_thief(store: Store, _: Honest) -> None:
    append(store, [*BEFORE, "never happened"])
    with store.unit() as unit:
        own = SigningKey.generate(ORIGIN)
        store.signer.rotate(unit, own, origin=ORIGIN, caller=PERSON, overlap_entries=0)
    append(store, AFTER)


FORGERIES = [_cut_and_continued, _rewritten, _shorter, _rotation_replayed, _rotated_to_the_thief]


@pytest.fixture
def forge(honest: Honest, tmp_path: Path, clock: SimulatedClock) -> Iterator[Callable[..., Store]]:
    with ExitStack() as opened:

        def run(forgery: Callable[[Store, Honest], None]) -> Store:
            signer = LogSigner(honest.old)
            if forgery is _rotation_replayed:
                signer = Thief(honest.old)
            path = tmp_path / "forged.db"
            store = opened.enter_context(Store.open(path, origin=ORIGIN, signer=signer, clock=clock))
            forgery(store, honest)
            return store

        yield run


@pytest.mark.parametrize("forgery", FORGERIES)
def test_whoever_pins_the_new_key_accepts_no_history_of_a_thief_of_the_old_one(
    forgery: Callable[[Store, Honest], None],
    honest: Honest,
    forge: Callable[..., Store],
    tmp_path: Path,
    clock: SimulatedClock,
) -> None:
    forged = forge(forgery)
    pin = honest.files.vkey.read_text()
    assert pin.strip() == honest.new_vkey
    assert verify_store(honest.store.path, pin).ok
    assert not verify_store(forged.path, pin).ok
    forged.snapshot(tmp_path / "copy.db")
    if forgery is not _rotation_replayed:  # the exporter itself refuses to export that one
        export(forged, tmp_path / "out")
        assert not verify_export(tmp_path / "out", pin).ok
        with forged.read() as connection, pytest.raises(IntegrityError):
            verify_proof(prove_entry(connection, 0), pin)
    # The desk itself, put on the thief's file, neither trades on it nor signs it.
    with pytest.raises(IntegrityError):
        Store.open(tmp_path / "copy.db", origin=ORIGIN, signer=honest.files.signer(), clock=clock)


@pytest.mark.parametrize("forgery", [_cut_and_continued, _rewritten, _shorter, _rotated_to_the_thief])
def test_a_pin_that_did_not_move_on_is_deceived_and_the_witness_is_not(
    forgery: Callable[[Store, Honest], None], honest: Honest, forge: Callable[..., Store]
) -> None:
    """The limit that docs/audit.md states: no log alone can tell the two histories of one key apart."""
    forged = forge(forgery)
    report = verify_store(forged.path, honest.old.vkey)
    assert report.ok
    assert verify_store(honest.store.path, honest.old.vkey).ok
    missing = witnessed.missing_in(forged.path, honest.witness, size=report.size, cosigned=honest.cosigned)
    assert missing is not None
    size = honest.store.head().size
    assert (
        witnessed.missing_in(honest.store.path, honest.witness, size=size, cosigned=honest.cosigned) is None
    )


@pytest.mark.parametrize("place", [0, 2, 3, 4, 10**9])
def test_a_proof_that_places_the_public_hand_over_elsewhere_is_refused_for_the_new_key(
    honest: Honest, place: int
) -> None:
    """Placed beyond the tree, it would name the new key and still let the old one sign alone."""
    with honest.store.read() as connection:
        ((_, rotation),) = read_rotations(connection)
        entry = read_entry(connection, 0)
    data = canonical_bytes(entry.model_dump(mode="json", exclude_none=True))
    leaves = [merkle.leaf_hash(data), merkle.leaf_hash(b"x"), merkle.leaf_hash(b"y")]
    note = Checkpoint(ORIGIN, 3, merkle.tree_hash(leaves)).sign([honest.old])

    def read(level: int, position: int) -> bytes:
        return merkle.tree_hash(leaves[position << level : (position + 1) << level])

    path = merkle.inclusion_proof(read, 0, 3)
    alone = write_proof(0, path, note, Extra(entry=data.decode()))
    assert verify_proof(alone, honest.old.vkey).seq == 0, "to a pin that did not move on it is a proof"
    carried = Extra(entry=data.decode(), rotations=(PlacedRotation(seq=place, rotation=rotation),))
    for proof in (alone, write_proof(0, path, note, carried)):
        with pytest.raises(IntegrityError):
            verify_proof(proof, honest.new_vkey)


def test_a_backdated_checkpoint_of_the_stolen_key_is_named_whatever_is_pinned(
    honest: Honest, tmp_path: Path
) -> None:
    honest.store.snapshot(tmp_path / "copy.db")
    backdated = Checkpoint(ORIGIN, 3, bytes(32)).sign([honest.old])
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("UPDATE audit_checkpoints SET note = ? WHERE size = 3", (backdated,))
    for pin in (honest.old.vkey, honest.new_vkey):
        report = verify_store(tmp_path / "copy.db", pin)
        assert not report.ok
        assert "do not make up the root signed at size 3" in report.problems[0].what


def test_after_the_overlap_the_stolen_key_signs_nothing_that_anybody_takes(
    honest: Honest, tmp_path: Path
) -> None:
    honest.store.snapshot(tmp_path / "copy.db")
    head = honest.store.head()
    alone = Checkpoint(ORIGIN, head.size, bytes.fromhex(head.root_hex)).sign([honest.old])
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("UPDATE audit_checkpoints SET note = ? WHERE size = ?", (alone, head.size))
    for pin in (honest.old.vkey, honest.new_vkey):
        assert "is not signed by" in verify_store(tmp_path / "copy.db", pin).problems[0].what
