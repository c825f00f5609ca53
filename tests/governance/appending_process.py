"""A process that appends to a store until it is killed, saying what was acknowledged.

    python appending_process.py DB KEY NAME COUNT

Each acknowledged entry is one line on stdout, written and flushed only after the unit has ended.
Where the store fails, the codes of the failure and of three more attempts stand on stderr (exit 3).
"""

import sys
from pathlib import Path

import structlog

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock

NOTES = "CREATE TABLE IF NOT EXISTS notes (seq INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"


def main(database: str, key: str, name: str, count: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    signer = SigningKey.load(Path(key))
    caller = Caller("tester", name)
    with Store.open(
        Path(database), origin=signer.name, signer=signer, clock=WallClock(), schemas=[NOTES]
    ) as store:
        for number in range(int(count)):
            try:
                append(store, caller, number)
            except StorageError as error:
                codes = [error.code]
                # The disk may seem well again: the store must not believe it.
                for _ in range(3):
                    try:
                        append(store, caller, number)
                    except StorageError as again:
                        codes.append(again.code)
                sys.stderr.write("\n" + " ".join(codes))
                sys.exit(3)


def append(store: Store, caller: Caller, number: int) -> None:
    with store.unit() as unit:
        # A varied size, so that commits end at every offset of a page.
        payload = {"number": number, "filler": "x" * (number * 37 % 3000)}
        seq = unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, payload=payload))
        unit.connection.execute("INSERT INTO notes VALUES (?, ?)", (seq, caller.agent))
    sys.stdout.write(f"{seq} {unit.receipt(seq).leaf_hash}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
