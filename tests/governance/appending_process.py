"""A process that appends to a store until it is killed, saying what was acknowledged.

    python appending_process.py DB KEY NAME COUNT

Each acknowledged entry is one line on stdout, written and flushed only after the unit has ended.
"""

import sys
from pathlib import Path

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock

NOTES = "CREATE TABLE IF NOT EXISTS notes (seq INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"


def main(database: str, key: str, name: str, count: str) -> None:
    signer = SigningKey.load(Path(key))
    caller = Caller("tester", name)
    with Store.open(
        Path(database), origin=signer.name, signer=signer, clock=WallClock(), schemas=[NOTES]
    ) as store:
        for number in range(int(count)):
            with store.unit() as unit:
                # A varied size, so that commits end at every offset of a page.
                payload = {"number": number, "filler": "x" * (number * 37 % 3000)}
                seq = unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, payload=payload))
                unit.connection.execute("INSERT INTO notes VALUES (?, ?)", (seq, name))
            sys.stdout.write(f"{seq} {unit.receipt(seq).leaf_hash}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
