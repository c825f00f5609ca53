"""A witness on its own folder, and the desk that answers to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neural_trader_governance.audit import witnessing
from neural_trader_governance.audit.witness import Witness
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

PERSON = Caller("alice", "")


@pytest.fixture
def person() -> Caller:
    return PERSON


@pytest.fixture
def witness_key() -> SigningKey:
    return SigningKey.generate("witness.example/w1")


@pytest.fixture
def open_witness(
    tmp_path: Path, witness_key: SigningKey, clock: SimulatedClock
) -> Iterator[Callable[[], Witness]]:
    """Opens the one witness of this test, again and again if need be."""
    folder = tmp_path / "witness"
    folder.mkdir()
    opened: list[Witness] = []

    def open_one() -> Witness:
        opened.append(Witness.open(folder, witness_key, clock))
        return opened[-1]

    yield open_one
    for witness in opened:
        witness.close()


@pytest.fixture
def witness(open_witness: Callable[[], Witness], signer: SigningKey) -> Witness:
    """A witness that trusts the log's key."""
    own = open_witness()
    own.trust(signer.verifying_key)
    return own


@pytest.fixture
def witnessed_store(store: Store, witness: Witness, person: Caller) -> Store:
    """A store whose witness is pinned."""
    with store.unit() as unit:
        witnessing.pin(unit, caller=person, key=witness.key)
    return store
