"""Forging: what somebody who holds the machine and the log's own key can make of the log.

Entries are a function of their payload (the clock stands still), so that two logs with the same
payloads are one history, and with different ones two.
"""

from collections.abc import Sequence
from pathlib import Path

from neural_trader_governance.audit import witnessing
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock

ORIGIN = "desk.example/log"
PERSON = Caller("alice", "")


def append(store: Store, payloads: Sequence[str]) -> None:
    """Appends one entry per payload, in one unit."""
    with store.unit() as unit:
        for payload in payloads:
            entry = AuditEntry.by(PERSON, EntryType.RECON, payload={"what": payload})
            unit.append(entry)


def forge(
    path: Path,
    payloads: Sequence[str],
    *,
    signer: SigningKey,
    witness: WitnessKey,
    clock: Clock,
    steps: int = 3,
) -> Store:
    """Writes a whole log anew, pin and all, with every checkpoint signed by the log's own key."""
    store = Store.open(path, origin=ORIGIN, signer=signer, clock=clock)
    with store.unit() as unit:
        witnessing.pin(unit, caller=PERSON, key=witness)
    size = max(1, -(-len(payloads) // steps))
    for start in range(0, len(payloads), size):
        append(store, payloads[start : start + size])
    return store


def copy_cosignatures(source: Store, target: Store) -> None:
    """Brings the honest log's cosignatures along, as an attacker would, to look cosigned."""
    with source.read() as connection:
        rows = connection.execute("SELECT size, witness, time_s, line FROM audit_cosignatures").fetchall()
        runs = connection.execute("SELECT run, time_s FROM audit_witness_runs").fetchall()
    with target.unit() as unit:
        unit.connection.executemany("INSERT OR REPLACE INTO audit_cosignatures VALUES (?, ?, ?, ?)", rows)
        unit.connection.executemany("INSERT OR REPLACE INTO audit_witness_runs VALUES (?, ?)", runs)
