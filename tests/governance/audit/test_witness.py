"""The witness: every answer of https://c2sp.org/tlog-witness, and what it never does."""

import base64
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import Checkpoint, open_checkpoint
from neural_trader_governance.audit.submissions import Submission, parse_submission
from neural_trader_governance.audit.witness import Answer, Witness
from neural_trader_governance.errors import InputError, StorageError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import Signature, parse_note, sign_note
from neural_trader_governance.terms.clocks import SimulatedClock

ORIGIN = "desk.example/log"


def leaves(count: int, salt: str = "") -> list[bytes]:
    return [merkle.leaf_hash(f"{salt}{number}".encode()) for number in range(count)]


def reader(hashes: Sequence[bytes]) -> merkle.NodeReader:
    return lambda level, position: merkle.tree_hash(hashes[position << level : (position + 1) << level])


def ask(
    hashes: Sequence[bytes],
    old: int,
    signer: SigningKey,
    *,
    proof: Sequence[bytes] | None = None,
    origin: str = ORIGIN,
) -> bytes:
    """Returns an add-checkpoint request for the tree of these leaves."""
    note = Checkpoint(origin, len(hashes), merkle.tree_hash(hashes)).sign([signer])
    if proof is None:
        proof = merkle.consistency_proof(reader(hashes), old, len(hashes)) if old else []
    return Submission(old, tuple(proof), note).encode()


def test_a_first_checkpoint_is_cosigned_without_a_proof(witness: Witness, signer: SigningKey) -> None:
    request = ask(leaves(5), 0, signer)
    answer = witness.add_checkpoint(request)
    assert answer.status == 200
    note = parse_note(parse_submission(request).note + answer.body)
    assert witness.key.verify(note) == 1_362_150_000  # the witness's clock
    known = witness.latest(ORIGIN)
    assert known is not None
    assert (known.size, known.root_hex) == (5, merkle.tree_hash(leaves(5)).hex())
    assert parse_note(known.note).signatures == note.signatures


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 8), (8, 8), (7, 100), (64, 65)])
def test_what_continues_is_cosigned(witness: Witness, signer: SigningKey, old: int, new: int) -> None:
    assert witness.add_checkpoint(ask(leaves(old), 0, signer)).status == 200
    assert witness.add_checkpoint(ask(leaves(new), old, signer)).status == 200


def test_a_stale_old_size_is_answered_with_the_size_that_is_known(
    witness: Witness, signer: SigningKey
) -> None:
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    answer = witness.add_checkpoint(ask(leaves(9), 3, signer))
    assert (answer.status, answer.body, answer.content_type) == (409, "5\n", "text/x.tlog.size")


@pytest.mark.parametrize("size", [5, 6, 40])
def test_another_history_is_refused_whatever_its_size_and_kept_as_evidence(
    witness: Witness, signer: SigningKey, size: int
) -> None:
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    assert witness.add_checkpoint(ask(leaves(size, "other"), 5, signer)).status == 422
    known = witness.latest(ORIGIN)
    assert known is not None
    assert (known.size, known.refused) == (5, 1)


def test_a_true_checkpoint_with_false_proofs_leaves_room_for_the_evidence_of_a_fork(
    witness: Witness, signer: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can send what the desk published; it must not fill the memory that evidence needs."""
    monkeypatch.setattr("neural_trader_governance.audit.witness._EVIDENCE_MAX", 8)
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    for _ in range(3):
        assert witness.add_checkpoint(ask(leaves(6), 5, signer, proof=[bytes(32)])).status == 422
    assert (known := witness.latest(ORIGIN)) is not None
    assert known.refused == 1, "the same checkpoint is kept once"
    for size in range(7, 30):
        assert witness.add_checkpoint(ask(leaves(size), 5, signer, proof=[bytes(32)])).status == 422
    assert (known := witness.latest(ORIGIN)) is not None
    assert known.refused == 4
    assert witness.add_checkpoint(ask(leaves(5, "fork"), 5, signer)).status == 422
    assert (known := witness.latest(ORIGIN)) is not None
    assert known.refused == 5


def test_a_checkpoint_with_sixteen_large_signatures_is_heard(witness: Witness, signer: SigningKey) -> None:
    """c2sp.org/signed-note: at least 16 signatures, of nearly 5 kB each, MUST be accepted."""
    note = Checkpoint(ORIGIN, 5, merkle.tree_hash(leaves(5))).sign([signer])
    note += "".join(Signature(f"other.example/{n}", bytes(4), bytes(4_900)).line() for n in range(15))
    assert witness.add_checkpoint(Submission(0, (), note).encode()).status == 200
    assert (known := witness.latest(ORIGIN)) is not None
    assert len(parse_note(known.note).signatures) == 17


def test_a_size_in_other_digits_is_no_size(witness: Witness, signer: SigningKey) -> None:
    text = f"{ORIGIN}\n1\u0663\n{base64.b64encode(bytes(32)).decode()}\n"
    note = sign_note(text, [signer]).encode()
    assert witness.add_checkpoint(Submission(0, (), note).encode()).status == 400


def test_a_smaller_tree_is_never_cosigned(witness: Witness, signer: SigningKey) -> None:
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    assert witness.add_checkpoint(ask(leaves(3), 3, signer)).status == 409
    assert witness.add_checkpoint(ask(leaves(3), 0, signer)).status == 409
    assert witness.add_checkpoint(ask(leaves(3), 5, signer, proof=[])).status == 400


def test_a_proof_where_none_belongs_is_refused(witness: Witness, signer: SigningKey) -> None:
    assert witness.add_checkpoint(ask(leaves(5), 0, signer, proof=leaves(1))).status == 422
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    assert witness.add_checkpoint(ask(leaves(5), 5, signer, proof=leaves(1))).status == 422


def test_an_empty_tree_has_the_empty_root(witness: Witness, signer: SigningKey) -> None:
    wrong = Checkpoint(ORIGIN, 0, b"\x01" * 32).sign([signer])
    assert witness.add_checkpoint(Submission(0, (), wrong).encode()).status == 422
    assert witness.add_checkpoint(ask([], 0, signer)).status == 200
    assert witness.add_checkpoint(ask(leaves(3), 0, signer)).status == 200


def test_an_unknown_log_and_an_unknown_key_are_told_apart(witness: Witness, signer: SigningKey) -> None:
    stranger = SigningKey.generate(ORIGIN)
    assert witness.add_checkpoint(ask(leaves(5), 0, signer, origin="desk.example/other")).status == 404
    assert witness.add_checkpoint(ask(leaves(5), 0, stranger)).status == 403
    assert witness.latest(ORIGIN) is None


def test_a_known_keys_signature_that_does_not_hold_spoils_the_note(
    witness: Witness, signer: SigningKey
) -> None:
    good, other = parse_submission(ask(leaves(5), 0, signer)), parse_submission(ask(leaves(6), 0, signer))
    lines = parse_note(other.note).signatures[0].line()
    assert witness.add_checkpoint(Submission(0, (), good.note + lines).encode()).status == 403
    swapped = parse_note(good.note).text + "\n" + lines
    assert witness.add_checkpoint(Submission(0, (), swapped).encode()).status == 403


def test_a_new_key_counts_once_an_operator_has_pinned_it_and_the_old_one_still_does(
    witness: Witness, signer: SigningKey
) -> None:
    new = SigningKey.generate(ORIGIN)
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    assert witness.add_checkpoint(ask(leaves(6), 5, new)).status == 403
    assert witness.trust(new.verifying_key)
    assert not witness.trust(new.verifying_key)
    assert witness.add_checkpoint(ask(leaves(6), 5, new)).status == 200
    assert witness.add_checkpoint(ask(leaves(7), 6, signer)).status == 200
    assert witness.add_checkpoint(ask(leaves(8, "other"), 7, new)).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        b"old 01\n\nx",
        b"old -1\n\nx",
        b"OLD 0\n\nx",
        b"old 0 \n\nx",
        b"old 0\nAAAA\n\nx",
        b"old 0\n!!\n\nx",
        b"\xff\xfe\n\nx",
        b"old 1\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\nx",
        b"old 0\n\n" + b"x" * 70_000,
        b"old 0\n\nnot a note",
    ],
)
def test_what_is_no_request_is_answered_400_and_changes_nothing(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status == 400
    assert witness.logs() == []


def test_a_spare_bit_in_a_proof_line_is_refused() -> None:
    line = base64.b64encode(b"\x00" * 32).decode().replace("A=", "B=")
    with pytest.raises(InputError, match="canonical"):
        parse_submission(f"old 1\n{line}\n\nx".encode())


def test_what_was_cosigned_is_remembered_by_whoever_opens_the_folder_next(
    open_witness: Callable[[], Witness], witness: Witness, signer: SigningKey
) -> None:
    witness.add_checkpoint(ask(leaves(9), 0, signer))
    witness.close()
    again = open_witness()
    assert again.add_checkpoint(ask(leaves(9, "other"), 0, signer)).body == "9\n"
    assert again.add_checkpoint(ask(leaves(12), 9, signer)).status == 200


def test_a_memory_that_cannot_be_written_ends_the_witness(
    witness: Witness, signer: SigningKey, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "witness" / "witness.db") as other:
        other.execute("DROP TABLE logs")
    for size in (5, 6):
        with pytest.raises(StorageError) as caught:
            witness.add_checkpoint(ask(leaves(size), 0, signer))
        assert caught.value.code == "witness_write_failed"


def test_of_many_forks_that_race_for_the_first_place_one_wins(
    open_witness: Callable[[], Witness], witness: Witness, signer: SigningKey
) -> None:
    """The race that the specification warns of: check and memory are one transaction."""
    requests = [ask(leaves(5 + number, str(number)), 0, signer) for number in range(24)]
    racers = [witness, *(open_witness() for _ in range(3))]

    def race(number: int) -> Answer:
        return racers[number % 4].add_checkpoint(requests[number])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(24)))
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.status for answer in answers} == {200, 409}


_ASK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from neural_trader_governance.audit.witness import Witness
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.clocks import SimulatedClock
clock = SimulatedClock(datetime(2013, 3, 1, tzinfo=UTC))
witness = Witness.open(Path(sys.argv[1]), SigningKey.load(Path(sys.argv[2])), clock)
print(witness.add_checkpoint(sys.stdin.buffer.read()).status)
"""


def test_processes_on_one_folder_never_cosign_two_histories(
    witness: Witness, witness_key: SigningKey, signer: SigningKey, tmp_path: Path
) -> None:
    key = tmp_path / "witness.key"
    witness_key.save(key)

    def run(number: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _ASK, str(tmp_path / "witness"), str(key)],
            input=ask(leaves(4, str(number)), 0, signer),
            capture_output=True,
            check=True,
        )
        return int(done.stdout)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(run, range(6)))
    assert sorted(answers) == [200, 409, 409, 409, 409, 409]


def test_the_served_note_carries_the_logs_own_signature(
    witness: Witness, signer: SigningKey, clock: SimulatedClock
) -> None:
    witness.add_checkpoint(ask(leaves(5), 0, signer))
    known = witness.latest(ORIGIN)
    assert known is not None
    assert open_checkpoint(known.note, signer.verifying_key).size == 5
    clock.advance_to(clock.now().replace(hour=16))
    witness.add_checkpoint(ask(leaves(5), 5, signer))
    renewed = witness.latest(ORIGIN)
    assert renewed is not None
    assert renewed.time_s == known.time_s + 3600
    assert len(parse_note(renewed.note).signatures) == 2
