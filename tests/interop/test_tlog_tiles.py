"""An outside reader of C2SP tlog-tiles (`tlog-scales`, not ours) checks what `audit export` writes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint, InclusionProofInvalid

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ORIGIN = "neural-trader.test/interop"
FIRST, LAST = 200, 600  # below one tile of 256, then over two of them and a partial one


def fill(store: Store, upto: int) -> None:
    while (size := store.head().size) < upto:
        with store.unit() as unit:
            for number in range(size, min(size + 50, upto)):
                entry = AuditEntry.by(Caller("owner", "agent-1"), EntryType.KILL, payload={"number": number})
                unit.append(entry)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An export that grew once: its folder, the verifier key, and the checkpoint of its first state."""
    home = tmp_path_factory.mktemp("interop")
    key = SigningKey.generate(ORIGIN)
    clock = SimulatedClock(datetime(2026, 11, 22, tzinfo=UTC))
    with Store.open(home / "desk.db", origin=ORIGIN, signer=key, clock=clock) as store:
        fill(store, FIRST)
        export(store, home / "trail")
        before = (home / "trail" / "checkpoint").read_text()
        fill(store, LAST)
        export(store, home / "trail")
    return home / "trail", key.vkey, before


def test_it_accepts_signature_root_every_entry_and_the_growth(exported: tuple[Path, str, str]) -> None:
    folder, vkey, before = exported
    reader: Any = TilesReader(LocalBackend(folder))
    checkpoint = reader.get_checkpoint()
    assert checkpoint.size == LAST
    checkpoint.verify(Vkey.from_string(vkey))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    for index in range(checkpoint.size):
        proof = reader.get_inclusion_proof(index, checkpoint.size)
        proof.check(leaf_hash(reader.get_entry(index)), checkpoint.root_hash)
    earlier: Any = Checkpoint.from_text(before)
    earlier.verify(Vkey.from_string(vkey))
    grown = reader.get_consistency_proof(earlier.size, checkpoint.size)
    grown.check(earlier.root_hash, checkpoint.root_hash)


def test_it_refuses_another_key_and_an_altered_entry(exported: tuple[Path, str, str]) -> None:
    folder, _, _ = exported
    reader: Any = TilesReader(LocalBackend(folder))
    checkpoint = reader.get_checkpoint()
    stranger = SigningKey.generate(ORIGIN)
    with pytest.raises(RuntimeError, match="no signature matched"):
        checkpoint.verify(Vkey.from_string(stranger.vkey))
    altered = reader.get_entry(5).replace(b'"number":5', b'"number":6')
    with pytest.raises(InclusionProofInvalid):
        reader.get_inclusion_proof(5, LAST).check(leaf_hash(altered), checkpoint.root_hash)
