"""Log and witness against a model, in whatever order things happen to them.

Honest steps (append, export, cosign, crash, rotate) are mixed with an attacker's (put an older copy
back, write another history with the log's own key). Two things must hold after every step: the
witness never vouches for two trees of which one does not continue the other, and it never refuses a
log that only grew.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.governance.audit.forging import ORIGIN, PERSON, append, copy_cosignatures, forge

from neural_trader_governance.audit import merkle, rounds, witnessed, witnessing
from neural_trader_governance.audit.log import read_checkpoint
from neural_trader_governance.audit.rotation import KeyChain
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_export
from neural_trader_governance.audit.witness import Witness
from neural_trader_governance.errors import IntegrityError, NetworkError
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock


class LogAndWitness(RuleBasedStateMachine):
    """A desk on a disk, its witness on another, and an attacker with every key but the witness's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="witness-model-"))
        (self.folder / "witness").mkdir()
        self.clock = SimulatedClock(datetime(2013, 3, 1, 15, tzinfo=UTC))
        self.keys = [SigningKey.generate(ORIGIN)]
        self.witness_key = SigningKey.generate("witness.example/w1")
        self.vouched: list[tuple[int, bytes]] = []
        self.witnessed_leaves: list[bytes] = []
        self.copies: list[Path] = []
        self.number = 0
        self.starts = 0
        self.witness = self._open_witness()
        self.witness.trust(self.keys[0].verifying_key)
        self.store = self._open(self._path())

    @initialize()
    def pin(self) -> None:
        with self.store.unit() as unit:
            witnessing.pin(unit, caller=PERSON, key=self.witness.key)

    # What an honest desk does.

    @rule(count=st.integers(min_value=1, max_value=9))
    def trade(self, count: int) -> None:
        append(self.store, [self._fresh() for _ in range(count)])

    @rule()
    def cosign(self) -> None:
        size, note, leaves = self._log()
        grew = leaves[: len(self.witnessed_leaves)] == self.witnessed_leaves
        known = {(key.name, key.key_id) for _, key in self.witness.trusted()}
        signed = any((s.name, s.key_id) in known for s in parse_note(note).signatures)
        try:
            done = rounds.cosign(
                self.store, self.witness, caller=PERSON, now=self.clock.now(), run=self._run()
            )
        except IntegrityError:
            assert not grew, "an honest log was refused"
            assert not self._standing().consistent
        except NetworkError:
            assert not signed, "a signed log was sent away"
        else:
            assert grew, "a log that does not continue was cosigned"
            assert signed
            assert done.size == size
            self.witnessed_leaves = leaves
            self.vouched.append((size, merkle.tree_hash(leaves)))
            assert self._standing().consistent
            assert self._standing().age_s == 0

    @rule()
    def export(self) -> None:
        folder = self.folder / f"export-{self.number}"
        self.number += 1
        written = export(self.store, folder)
        assert verify_export(folder, self.keys[0].vkey).ok
        newest = self.witness.latest(ORIGIN)
        if newest is not None:
            missing = witnessed.missing_from(
                newest.note,
                self.witness.key,
                origin=ORIGIN,
                size=written.size,
                root_at=witnessed.export_root(folder, written.size),
            )
            leaves = self._log()[2]
            assert (missing is None) == (leaves[: len(self.witnessed_leaves)] == self.witnessed_leaves)

    @rule()
    def crash(self) -> None:
        """The desk and the witness start again from what is on their disks."""
        path = self.store.path
        self.store.close()
        self.witness.close()
        self.witness = self._open_witness()
        self.store = self._open(path)
        assert self._standing().age_s == witnessing.NEVER_S, "an earlier process's word was believed"

    @rule(overlap=st.integers(min_value=0, max_value=12))
    def rotate(self, overlap: int) -> None:
        new = SigningKey.generate(ORIGIN)
        self.keys.append(new)
        with self.store.unit() as unit:
            self.store.signer.rotate(unit, new, origin=ORIGIN, caller=PERSON, overlap_entries=overlap)

    @rule()
    def the_witness_is_told_of_the_newest_key(self) -> None:
        self.witness.trust(self._chain().current)

    # What an attacker does.

    @rule()
    def keep_a_copy(self) -> None:
        path = self._path()
        self.store.snapshot(path)
        self.copies.append(path)

    @precondition(lambda self: bool(self.copies))
    @rule(data=st.data())
    def put_a_copy_back(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.copies))
        path = self._path()
        shutil.copyfile(chosen, path)
        self._replace(path)

    @rule(
        common=st.integers(min_value=0, max_value=12),
        more=st.integers(min_value=0, max_value=40),
        ask=st.booleans(),
    )
    def write_another_history(self, common: int, more: int, ask: bool) -> None:
        with self.store.read() as connection:
            rows = connection.execute(
                "SELECT json_extract(entry, '$.payload.what') FROM audit_entries ORDER BY seq LIMIT ?",
                (common + 1,),
            ).fetchall()
        kept = [str(row[0]) for row in rows[1:] if row[0] is not None]
        path = self._path()
        forged = forge(
            path,
            [*kept, *(self._fresh() for _ in range(more))],
            signer=self.keys[0],
            witness=self.witness.key,
            clock=self.clock,
        )
        copy_cosignatures(self.store, forged)
        forged.close()
        self._replace(path)
        if ask:
            self.cosign()

    @invariant()
    def what_was_vouched_for_is_one_history(self) -> None:
        for size, root in self.vouched:
            assert merkle.tree_hash(self.witnessed_leaves[:size]) == root

    def teardown(self) -> None:
        self.store.close()
        self.witness.close()
        shutil.rmtree(self.folder)

    def _replace(self, path: Path) -> None:
        self.store.close()
        self.store = self._open(path)

    def _open(self, path: Path) -> Store:
        self.starts += 1
        signer = LogSigner(self.keys[0], find=self._find)
        return Store.open(path, origin=ORIGIN, signer=signer, clock=self.clock)

    def _find(self, wanted: VerifyingKey) -> SigningKey | None:
        return next((key for key in self.keys if key.verifying_key == wanted), None)

    def _open_witness(self) -> Witness:
        return Witness.open(self.folder / "witness", self.witness_key, self.clock)

    def _path(self) -> Path:
        self.number += 1
        return self.folder / f"{self.number}.db"

    def _fresh(self) -> str:
        self.number += 1
        return f"entry {self.number}"

    def _run(self) -> str:
        return f"start {self.starts}"

    def _standing(self) -> witnessing.WitnessStanding:
        with self.store.read() as connection:
            return witnessing.standing(connection, now=self.clock.now(), run=self._run())

    def _chain(self) -> KeyChain:
        with self.store.read() as connection:
            return self.store.signer.chain(connection, ORIGIN)

    def _log(self) -> tuple[int, str, list[bytes]]:
        with self.store.read() as connection:
            found = read_checkpoint(connection)
            rows = connection.execute("SELECT leaf_hash FROM audit_entries ORDER BY seq").fetchall()
        assert found is not None
        return found[0], found[1], [bytes(row[0]) for row in rows]


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class TestLogAndWitness(LogAndWitness.TestCase):
    settings = _settings(20)


@pytest.mark.slow
class TestLogAndWitnessAtLength(LogAndWitness.TestCase):
    settings = _settings(400)
