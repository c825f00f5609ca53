"""A process that appends to a store from several threads until it is killed, saying what was acknowledged.

    python appending_process.py DB KEY NAME COUNT [THREADS]

Each acknowledged entry is one line on stdout, written only after the unit has ended. Every seventh unit
is made to fail in its body, and must leave nothing. Where the store fails, the codes of the failure and
of three more attempts of each thread stand on stderr (exit 3).

    python appending_process.py zygote

forks such processes from one that has imported everything: for each line `DB KEY NAME COUNT THREADS OUT`
on stdin it answers the pid; the process writes to the named pipe OUT. `reap PID` answers its exit status.
"""

import os
import sys
import threading
from pathlib import Path

import structlog

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock

NOTES = "CREATE TABLE IF NOT EXISTS notes (seq INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"


class UndoneError(Exception):
    """A body that fails on purpose."""


def main(database: str, key: str, name: str, count: str, threads: str = "1") -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    signer = SigningKey.load(Path(key))
    codes: list[str] = []

    def run(store: Store, number: int) -> None:
        caller = Caller("tester", f"{name}-{number}")
        for turn in range(int(count)):
            try:
                append(store, caller, turn)
            except StorageError as error:
                codes.append(error.code)
                # The disk may seem well again: the store must not believe it.
                for _ in range(3):
                    try:
                        append(store, caller, turn)
                    except StorageError as again:
                        codes.append(again.code)
                return

    try:
        with Store.open(
            Path(database), origin=signer.name, signer=signer, clock=WallClock(), schemas=[NOTES]
        ) as store:
            group = [threading.Thread(target=run, args=(store, number)) for number in range(int(threads))]
            for thread in group:
                thread.start()
            for thread in group:
                thread.join()
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        codes.append(error.code)
    if codes:
        sys.stderr.write("\n" + " ".join(codes))
        sys.stderr.flush()
        sys.exit(3)


def append(store: Store, caller: Caller, number: int) -> None:
    try:
        with store.unit() as unit:
            # A varied size, so that commits end at every offset of a page.
            payload = {"number": number, "filler": "x" * (number * 37 % 3000)}
            seq = unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, payload=payload))
            unit.connection.execute("INSERT INTO notes VALUES (?, ?)", (seq, caller.agent))
            if number % 7 == 6:
                unit.connection.execute("UPDATE notes SET name = 'undone' WHERE seq = ?", (seq,))
                raise UndoneError
    except UndoneError:
        return
    os.write(1, f"{seq} {unit.receipt(seq).leaf_hash}\n".encode())


def zygote() -> None:
    for line in sys.stdin:
        words = line.split()
        if words[0] == "reap":
            _, status = os.waitpid(int(words[1]), 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                os.dup2(os.open(words[-1], os.O_WRONLY), 1)
                status = 0
                try:
                    main(*words[:-1])
                except SystemExit as end:
                    status = int(str(end.code))
                finally:
                    os._exit(status)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["zygote"]:
        zygote()
    else:
        main(*sys.argv[1:])
