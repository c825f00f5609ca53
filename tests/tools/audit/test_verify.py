import sqlite3
from pathlib import Path

import pytest

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import open_checkpoint
from neural_trader_governance.errors import InputError
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_tools.audit.verify import audit_verify

pytestmark = pytest.mark.anyio


async def test_a_whole_log_verifies_under_its_signed_root(store: Store) -> None:
    result = await audit_verify(store)
    checkpoint = open_checkpoint(result.checkpoint, VerifyingKey.parse(result.vkey))
    assert (result.ok, result.size, result.inclusion_proof, result.problems) == (True, 5, None, [])
    assert (checkpoint.size, checkpoint.root.hex()) == (5, result.root)


@pytest.mark.parametrize("seq", range(5))
async def test_a_proof_leads_from_each_entrys_own_bytes_to_the_root(store: Store, seq: int) -> None:
    result = await audit_verify(store, seq=seq)
    assert result.inclusion_proof is not None
    with store.read() as connection:
        (data,) = connection.execute("SELECT entry FROM audit_entries WHERE seq = ?", (seq,)).fetchone()
    path = [bytes.fromhex(step) for step in result.inclusion_proof.hashes]
    assert result.inclusion_proof.leaf_hash == merkle.leaf_hash(data).hex()
    assert merkle.verify_inclusion(merkle.leaf_hash(data), seq, 5, path, bytes.fromhex(result.root))


async def test_an_altered_entry_is_named_and_nothing_is_proven(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "desk.db") as connection:
        connection.execute(
            "UPDATE audit_entries SET entry = CAST(replace(entry, '100', '999') AS BLOB) WHERE seq = 2"
        )
    connection.close()
    result = await audit_verify(store, seq=3)
    assert not result.ok
    assert result.inclusion_proof is None
    assert result.problems[0].seq == 2


@pytest.mark.parametrize("seq", [-1, 5, 2**63, -(2**63), 10**30])
async def test_an_entry_that_does_not_exist_is_refused(store: Store, seq: int) -> None:
    with pytest.raises(InputError, match="unknown_seq"):
        await audit_verify(store, seq=seq)
