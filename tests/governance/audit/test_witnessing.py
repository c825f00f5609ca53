"""The desk's side of its witness: what is kept, what policy is told, and what is never believed."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.governance.audit.forging import append

from neural_trader_governance.audit import rounds, witnessing
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_export
from neural_trader_governance.audit.witness import Answer, Witness
from neural_trader_governance.audit.witnessing import NEVER_S, WitnessStanding
from neural_trader_governance.errors import IntegrityError, NetworkError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock


class Says:
    """A witness's address at which somebody else answers."""

    def __init__(self, status: int, body: str) -> None:
        self._answer = Answer(status, body)

    def add_checkpoint(self, body: bytes) -> Answer:
        return self._answer


class Replays:
    """Answers with what the witness answered first, for ever."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._first: Answer | None = None

    def add_checkpoint(self, body: bytes) -> Answer:
        self._first = self._first or self._witness.add_checkpoint(body)
        return self._first


@pytest.fixture
def ask(person: Caller, clock: SimulatedClock) -> Callable[..., rounds.Cosigned]:
    def once(store: Store, witness: rounds.WitnessPort, run: str = "now") -> rounds.Cosigned:
        return rounds.cosign(store, witness, caller=person, now=clock.now(), run=run)

    return once


@pytest.fixture
def standing(clock: SimulatedClock) -> Callable[..., WitnessStanding]:
    def read(store: Store, run: str = "now") -> WitnessStanding:
        with store.read() as connection:
            return witnessing.standing(connection, now=clock.now(), run=run)

    return read


def test_without_a_pin_nothing_is_required(store: Store, standing: Callable[..., WitnessStanding]) -> None:
    assert standing(store) == WitnessStanding(False, True, 0, False, None)


def test_a_pinned_witness_that_was_never_asked_counts_as_never(
    witnessed_store: Store, standing: Callable[..., WitnessStanding]
) -> None:
    assert standing(witnessed_store) == WitnessStanding(True, True, NEVER_S, False, None)


def test_a_cosignature_grows_old_and_is_renewed_although_nothing_grew(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
    clock: SimulatedClock,
) -> None:
    assert ask(witnessed_store, witness).size == 1
    clock.advance(timedelta(seconds=90))
    assert standing(witnessed_store) == WitnessStanding(True, True, 90, True, 1)
    ask(witnessed_store, witness)
    assert standing(witnessed_store).age_s == 0


def test_the_next_process_believes_nothing_that_this_one_was_told(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
) -> None:
    ask(witnessed_store, witness, "this process")
    assert standing(witnessed_store, "this process").age_s == 0
    assert standing(witnessed_store, "the next one").age_s == NEVER_S
    assert not standing(witnessed_store, "the next one").confirmed


def test_two_processes_on_one_home_do_not_unsettle_each_other(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
    person: Caller,
) -> None:
    for number in range(6):
        append(witnessed_store, [f"order {number}"])
        ask(witnessed_store, witness, "one")
        ask(witnessed_store, witness, "two")
        assert standing(witnessed_store, "one").age_s == standing(witnessed_store, "two").age_s == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, ""),
        (200, "\u2014 witness.example/w1 AAAAAAAA\n"),
        (200, "nonsense"),
        (403, "who are you"),
        (404, "what log"),
        (409, "many"),
        (409, "-1"),
        (409, "0"),
        (500, ""),
        (302, ""),
    ],
)
def test_an_answer_that_proves_nothing_changes_nothing(
    witnessed_store: Store,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
    status: int,
    body: str,
) -> None:
    before = witnessed_store.head()
    with pytest.raises(NetworkError) as caught:
        ask(witnessed_store, Says(status, body))
    assert caught.value.code == "not_witnessed"
    assert standing(witnessed_store) == WitnessStanding(True, True, NEVER_S, False, None)
    assert witnessed_store.head() == before


def test_an_old_cosignature_played_again_stays_old(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
    clock: SimulatedClock,
) -> None:
    replays = Replays(witness)
    ask(witnessed_store, replays)
    clock.advance(timedelta(hours=2))
    ask(witnessed_store, replays)
    assert standing(witnessed_store).age_s == 7200


def test_a_cosignature_from_the_future_is_as_old_as_its_arrival(
    witnessed_store: Store,
    witness: Witness,
    person: Caller,
    standing: Callable[..., WitnessStanding],
    clock: SimulatedClock,
) -> None:
    early = clock.now() - timedelta(hours=1)
    done = rounds.cosign(witnessed_store, witness, caller=person, now=early, run="now")
    assert done.time_s == int(early.timestamp())
    assert standing(witnessed_store).age_s == 3600


def test_a_refusal_is_durable_logged_once_and_ends_when_the_witness_cosigns(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
) -> None:
    ask(witnessed_store, witness)
    for _ in range(3):
        with pytest.raises(IntegrityError) as caught:
            ask(witnessed_store, Says(409, "999\n"))
        assert caught.value.code == "witness_refused"
    assert not standing(witnessed_store, "another process").consistent
    with witnessed_store.read() as connection:
        rows = connection.execute(
            "SELECT seq FROM audit_entries WHERE type = ?", (EntryType.WITNESS_REFUSE.value,)
        ).fetchall()
        assert len(rows) == 1
        assert "999" in str(read_entry(connection, rows[0][0]).payload["detail"])
        alerts = connection.execute("SELECT kind, seq, message FROM alerts").fetchall()
    assert [(kind, seq) for kind, seq, _ in alerts] == [("witness", rows[0][0])], "a person hears of it, once"
    assert "999" in alerts[0][2]
    ask(witnessed_store, witness)
    assert standing(witnessed_store).consistent


def test_a_clock_that_was_put_back_makes_no_cosignature_fresh(
    witnessed_store: Store, witness: Witness, ask: Callable[..., rounds.Cosigned], clock: SimulatedClock
) -> None:
    ask(witnessed_store, witness)

    def age_s(earlier_s: int) -> int:
        with witnessed_store.read() as connection:
            now = clock.now() - timedelta(seconds=earlier_s)
            return witnessing.standing(connection, now=now, run="now").age_s

    assert [age_s(earlier_s) for earlier_s in (0, 60, 61, 86_400)] == [0, 0, NEVER_S, NEVER_S]


def test_only_a_person_pins_or_gives_up_a_witness_and_both_are_on_the_record(
    store: Store, witness: Witness, caller: Caller, person: Caller, standing: Callable[..., WitnessStanding]
) -> None:
    with pytest.raises(RiskError, match="person"), store.unit() as unit:
        witnessing.pin(unit, caller=caller, key=witness.key)
    with store.unit() as unit:
        assert witnessing.pin(unit, caller=person, key=witness.key)
        assert not witnessing.pin(unit, caller=person, key=witness.key)
    with pytest.raises(RiskError, match="person"), store.unit() as unit:
        witnessing.unpin(unit, caller=caller, reason="I would rather not")
    with store.unit() as unit:
        witnessing.unpin(unit, caller=person, reason="the machine is sold")
    assert not standing(store).required
    with pytest.raises(RiskError, match="no witness"), store.unit() as unit:
        witnessing.unpin(unit, caller=person, reason="again")
    with store.read() as connection:
        assert [read_entry(connection, seq).payload["vkey"] for seq in (0, 1)] == [witness.key.vkey, None]


def test_another_witness_starts_without_the_trust_of_the_one_before(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    standing: Callable[..., WitnessStanding],
    person: Caller,
) -> None:
    ask(witnessed_store, witness)
    other = WitnessKey.of(SigningKey.generate("witness.example/w2"))
    with witnessed_store.unit() as unit:
        assert witnessing.pin(unit, caller=person, key=other)
    assert standing(witnessed_store) == WitnessStanding(True, True, NEVER_S, False, None)
    with pytest.raises(NetworkError, match="proves nothing"):
        ask(witnessed_store, witness)


def test_an_export_of_a_cosigned_tree_carries_the_cosignature_and_still_verifies(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    tmp_path: Path,
    signer: SigningKey,
) -> None:
    append(witnessed_store, [f"order {number}" for number in range(7)])
    export(witnessed_store, tmp_path / "export")
    checkpoint = tmp_path / "export" / "checkpoint"
    assert len(parse_note(checkpoint.read_bytes()).signatures) == 1
    done = ask(witnessed_store, witness)
    export(witnessed_store, tmp_path / "export")
    note = parse_note(checkpoint.read_bytes())
    assert witness.key.verify(note) == done.time_s
    assert verify_export(tmp_path / "export", signer.vkey).ok
    append(witnessed_store, ["one more"])
    export(witnessed_store, tmp_path / "export")
    assert len(parse_note(checkpoint.read_bytes()).signatures) == 1
    assert verify_export(tmp_path / "export", signer.vkey).ok


def test_what_is_kept_of_cosignatures_stays_bounded(
    witnessed_store: Store,
    witness: Witness,
    ask: Callable[..., rounds.Cosigned],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_COSIGNATURES_KEPT", 5)
    monkeypatch.setattr(rounds, "_RUNS_KEPT", 3)
    for number in range(12):
        append(witnessed_store, [f"order {number}"])
        ask(witnessed_store, witness, f"run {number}")
    with witnessed_store.read() as connection:
        sizes = [row[0] for row in connection.execute("SELECT size FROM audit_cosignatures ORDER BY size")]
        runs = connection.execute("SELECT count(*) FROM audit_witness_runs").fetchone()[0]
    assert sizes == [9, 10, 11, 12, 13]
    assert runs == 3
