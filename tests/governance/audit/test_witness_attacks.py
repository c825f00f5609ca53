"""Attacks with the log's own key in hand: rollback, truncation, rewriting, forks. The witness catches all.

The desk's files alone verify after each of them; that is asserted too, or the attack would prove nothing.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.governance.audit.forging import ORIGIN, PERSON, append, copy_cosignatures, forge

from neural_trader_governance.audit import rounds, witnessed, witnessing
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.audit.verify import verify_connection, verify_export
from neural_trader_governance.audit.witness import Witness
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

CASES = 60
"""Of each kind of attack."""


@dataclass
class Desk:
    """An honest desk after some trading, and the copies of its file that it left on the way."""

    store: Store
    witness: Witness
    payloads: list[str]
    witnessed_size: int
    copies: dict[int, Path] = field(default_factory=dict[int, Path])


@pytest.fixture
def honest(witnessed_store: Store, witness: Witness, clock: SimulatedClock, tmp_path: Path) -> Desk:
    rng = random.Random(20130301)  # noqa: S311  # repeatable
    payloads: list[str] = []
    desk = Desk(witnessed_store, witness, payloads, 0)
    for day in range(24):
        today = [f"day {day}, entry {number}" for number in range(rng.randint(1, 6))]
        append(witnessed_store, today)
        payloads += today
        path = tmp_path / f"day-{day}.db"
        witnessed_store.snapshot(path)
        desk.copies[1 + len(payloads)] = path
        rounds.cosign(witnessed_store, witness, caller=PERSON, now=clock.now(), run="honest")
    desk.witnessed_size = 1 + len(payloads)
    return desk


def rolled_back(
    desk: Desk, rng: random.Random, folder: Path, signer: SigningKey, clock: SimulatedClock
) -> Store:
    """An older copy of the file, traded on for a while or not."""
    size = rng.choice([size for size in desk.copies if size < desk.witnessed_size])
    path = folder / "desk.db"
    path.write_bytes(desk.copies[size].read_bytes())
    store = Store.open(path, origin=ORIGIN, signer=signer, clock=clock)
    more = rng.choice([0, rng.randint(1, 5), desk.witnessed_size - size, desk.witnessed_size - size + 7])
    if more:
        append(store, [f"after the rollback {number}" for number in range(more)])
    return store


def truncated(
    desk: Desk, rng: random.Random, folder: Path, signer: SigningKey, clock: SimulatedClock
) -> Store:
    """The last entries cut off, one at least, and the end signed anew."""
    keep = rng.randint(0, len(desk.payloads) - 1)
    return forge(
        folder / "desk.db", desk.payloads[:keep], signer=signer, witness=desk.witness.key, clock=clock
    )


def rewritten(
    desk: Desk, rng: random.Random, folder: Path, signer: SigningKey, clock: SimulatedClock
) -> Store:
    """One entry altered, dropped, doubled or moved; the whole log chained and signed anew, and traded on."""
    forged = list(desk.payloads)
    place = rng.randrange(len(forged))
    match rng.randrange(4):
        case 0:
            forged[place] += " (altered)"
        case 1:
            del forged[place]
        case 2:
            forged.insert(place, f"{forged[place]} (once more)")
        case _:
            other = rng.choice([index for index in range(len(forged)) if index != place])
            forged[place], forged[other] = forged[other], forged[place]
    forged += [f"later {number}" for number in range(rng.choice([0, 1, 30]))]
    return forge(folder / "desk.db", forged, signer=signer, witness=desk.witness.key, clock=clock)


def forked(desk: Desk, rng: random.Random, folder: Path, signer: SigningKey, clock: SimulatedClock) -> Store:
    """Another history from some entry on, shorter, as long as, or longer than the true one."""
    common = rng.randint(0, len(desk.payloads) - 1)
    rest = len(desk.payloads) - common
    length = rng.choice([rng.randint(1, rest), rest, rest + rng.randint(1, 60)])
    forged = [*desk.payloads[:common], *(f"fork {number}" for number in range(length))]
    return forge(folder / "desk.db", forged, signer=signer, witness=desk.witness.key, clock=clock)


Attack = Callable[[Desk, random.Random, Path, SigningKey, SimulatedClock], Store]


@pytest.mark.parametrize("attack", [rolled_back, truncated, rewritten, forked])
def test_every_rollback_truncation_rewriting_and_fork_is_caught_by_the_pinned_witness(
    attack: Attack, honest: Desk, tmp_path: Path, signer: SigningKey, clock: SimulatedClock
) -> None:
    rng = random.Random(attack.__name__)  # noqa: S311  # repeatable
    counts: Counter[str] = Counter()
    before = honest.witness.latest(ORIGIN)
    for case in range(CASES):
        folder = tmp_path / f"case-{case}"
        folder.mkdir()
        store = attack(honest, rng, folder, signer, clock)
        copy_cosignatures(honest.store, store)
        try:
            with store.read() as connection:
                counts["whole in itself"] += verify_connection(connection, signer.vkey).ok
                standing = witnessing.standing(connection, now=clock.now(), run="the next start")
            counts["trusted before the witness was asked"] += standing.age_s < witnessing.NEVER_S
            with pytest.raises(IntegrityError) as caught:
                rounds.cosign(store, honest.witness, caller=PERSON, now=clock.now(), run="the next start")
            counts[caught.value.code] += 1
        finally:
            store.close()
        # What was refused stays refused, in the next process too, and is on the record once.
        again = Store.open(folder / "desk.db", origin=ORIGIN, signer=signer, clock=clock)
        with again.read() as connection:
            standing = witnessing.standing(connection, now=clock.now(), run="one more start")
            counts["denied after a restart"] += not standing.consistent and standing.required
            counts["on the record"] += connection.execute(
                "SELECT count(*) FROM audit_entries WHERE type = ?", (EntryType.WITNESS_REFUSE.value,)
            ).fetchone()[0]
        again.close()
    assert counts == {
        "whole in itself": CASES,
        "trusted before the witness was asked": 0,
        "witness_refused": CASES,
        "denied after a restart": CASES,
        "on the record": CASES,
    }
    after = honest.witness.latest(ORIGIN)
    assert before is not None
    assert after is not None
    assert (before.size, before.root_hex, before.note) == (after.size, after.root_hex, after.note)
    # No false alarm: the honest log goes on.
    append(honest.store, ["the day after"])
    done = rounds.cosign(honest.store, honest.witness, caller=PERSON, now=clock.now(), run="honest")
    assert done.size == honest.witnessed_size + 1


@pytest.mark.parametrize("attack", [rolled_back, truncated, rewritten, forked])
def test_an_auditor_catches_them_in_a_store_and_in_its_export_without_asking_the_desk(
    attack: Attack, honest: Desk, tmp_path: Path, signer: SigningKey, clock: SimulatedClock
) -> None:
    rng = random.Random(attack.__name__)  # noqa: S311  # repeatable
    known = honest.witness.latest(ORIGIN)
    assert known is not None
    caught: Counter[str] = Counter()
    for case in range(12):
        folder = tmp_path / f"case-{case}"
        folder.mkdir()
        store = attack(honest, rng, folder, signer, clock)
        written = export(store, folder / "export")
        assert verify_export(folder / "export", signer.vkey).ok
        with store.read() as connection:
            caught["store"] += (
                witnessed.missing_from(
                    known.note,
                    honest.witness.key,
                    origin=ORIGIN,
                    size=written.size,
                    root_at=witnessed.store_root(connection),
                )
                is not None
            )
        caught["export"] += (
            witnessed.missing_from(
                known.note,
                honest.witness.key,
                origin=ORIGIN,
                size=written.size,
                root_at=witnessed.export_root(folder / "export", written.size),
            )
            is not None
        )
        store.close()
    assert caught == {"store": 12, "export": 12}


@pytest.mark.parametrize("more", [0, 1, 300])
def test_an_auditor_finds_nothing_missing_in_an_honest_export(
    honest: Desk, tmp_path: Path, more: int
) -> None:
    known = honest.witness.latest(ORIGIN)
    assert known is not None
    if more:
        append(honest.store, [f"more {number}" for number in range(more)])
    written = export(honest.store, tmp_path / "export")
    assert (
        witnessed.missing_from(
            known.note,
            honest.witness.key,
            origin=ORIGIN,
            size=written.size,
            root_at=witnessed.export_root(tmp_path / "export", written.size),
        )
        is None
    )
