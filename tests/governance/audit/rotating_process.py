"""A process that appends to a home's log, and may rotate its key in between, as any process of a desk does.

    python rotating_process.py HOME NAME APPENDS ROTATIONS

Each acknowledged entry is one line on stdout; a rotation that lost to another one is tried again.
"""

import sys
from pathlib import Path

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.key_files import KeyFiles, rotate_log_key
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock


def main(home: Path, name: str, appends: int, rotations: int) -> None:
    files, caller = KeyFiles(home / "keys"), Caller(name, "")
    signer = files.signer()
    with Store.open(home / "desk.db", origin=signer.pinned.name, signer=signer, clock=WallClock()) as store:
        sys.stdin.readline()  # all begin together
        for number in range(appends):
            with store.unit() as unit:
                seq = unit.append(AuditEntry.by(caller, EntryType.RECON, payload={"number": number}))
            print(seq, unit.receipt(seq).leaf_hash, flush=True)  # noqa: T201 - what was acknowledged
            if number % (appends // (rotations + 1)) == 0 and number and rotations:
                rotate_log_key(store, files, caller=caller, overlap_entries=number % 3 * 4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
