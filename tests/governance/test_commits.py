"""Group commit: what threads share, and what of a neighbour nobody may feel."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import pytest

from neural_trader_governance import commits, database
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.verify import verify_connection
from neural_trader_governance.commits import UNITS_PER_BATCH_MAX
from neural_trader_governance.errors import StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store, Unit

OpenStore = Callable[..., Store]
ORDERS = "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT;"


class Failure(Exception):  # noqa: N818 - a body's own
    pass


@pytest.fixture
def crowd(open_store: OpenStore, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> "Crowd":
    monkeypatch.setattr(commits, "BATCH_AGE_S_MAX", 60.0)  # a busy machine must not part who meets
    return Crowd(open_store(schemas=[ORDERS]), caller)


class Crowd:
    """Units of many threads that are sure to meet in one batch: all wait while the first one is inside."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self.store = store
        self.caller = caller

    def append(self, unit: Unit, name: str) -> int:
        seq = unit.append(AuditEntry.by(self.caller, EntryType.ORDER_INTENT, payload={"name": name}))
        unit.connection.execute("INSERT INTO orders VALUES (?, ?)", (name, seq))
        return seq

    def appending(self, name: str) -> Callable[[Unit], int]:
        return lambda unit: self.append(unit, name)

    def run(self, *bodies: Callable[[Unit], object]) -> list[Future[Any]]:
        """Runs each body in a unit of its own thread, in this order, all in one batch."""
        writer = self.store._writer  # pyright: ignore[reportPrivateUsage]  # who waits is seen nowhere else
        done: list[Future[Any]] = [Future() for _ in bodies]

        def one(position: int) -> None:
            try:
                with self.store.unit() as unit:
                    if position < len(bodies) - 1:  # the next one stands in line before this one ends
                        threads[position + 1].start()
                        while not writer._waiting:  # pyright: ignore[reportPrivateUsage]
                            pass
                    answer = bodies[position](unit)
                done[position].set_result((answer, unit))
            except BaseException as error:
                done[position].set_exception(error)

        threads = [threading.Thread(target=one, args=(position,)) for position in range(len(bodies))]
        threads[0].start()
        for thread in threads:
            thread.join()
        return done

    def names(self) -> list[str]:
        with self.store.read() as connection:
            report = verify_connection(connection, self.store.vkey)
            assert report.ok, report.problems
            rows = connection.execute("SELECT id, seq FROM orders ORDER BY seq").fetchall()
            assert [row[1] for row in rows] == list(range(report.size))
            return [row[0] for row in rows]

    def checkpoints(self) -> int:
        with self.store.read() as connection:
            return connection.execute("SELECT count(*) FROM audit_checkpoints").fetchone()[0]


def test_units_that_meet_share_one_checkpoint_and_each_gets_its_own_receipt(crowd: Crowd) -> None:
    before = crowd.checkpoints()
    done = crowd.run(*(crowd.appending(name) for name in "abcde"))
    receipts = [unit.receipt(seq) for seq, unit in (future.result() for future in done)]
    assert crowd.checkpoints() == before + 1
    assert [receipt.seq for receipt in receipts] == [0, 1, 2, 3, 4]
    assert receipts == [crowd.store.receipt(seq) for seq in range(5)]
    assert len({receipt.checkpoint for receipt in receipts}) == 1


@pytest.mark.parametrize("position", range(4))
def test_a_body_that_raises_takes_back_its_own_and_leaves_its_neighbours(crowd: Crowd, position: int) -> None:
    def fail(unit: Unit) -> None:
        crowd.append(unit, "lost")
        # It looked at the log, so its neighbours' entries were written within its savepoint.
        assert unit.connection.execute("SELECT count(*) FROM audit_entries").fetchone()[0] == position + 1
        raise Failure

    bodies: list[Callable[[Unit], object]] = [crowd.appending(name) for name in "abc"]
    bodies.insert(position, fail)
    done = crowd.run(*bodies)
    assert [type(future.exception()) for future in done].count(Failure) == 1
    assert crowd.names() == ["a", "b", "c"]


def test_a_body_that_raises_returns_only_when_what_it_saw_is_durable(crowd: Crowd) -> None:
    def refuse(unit: Unit) -> None:
        assert unit.connection.execute("SELECT id FROM orders").fetchall() == [("a",)]
        raise Failure

    fail_commits(crowd.store)
    first, second = crowd.run(crowd.appending("a"), refuse)
    for future in (first, second):
        assert isinstance(error := future.exception(), StorageError)
        assert error.code == "audit_write_failed"
    assert isinstance(second.exception().__cause__, Failure)  # pyright: ignore[reportOptionalMemberAccess]
    assert crowd.names() == []


def fail_commits(store: Store) -> None:
    """Lets every commit fail as if the disk had; the real disk's failures are in test_processes."""
    connection = store._writer.connection  # pyright: ignore[reportPrivateUsage]

    def refuse(action: int, name: str | None, *_: object) -> int:
        commits = action == sqlite3.SQLITE_TRANSACTION and name == "COMMIT"
        return sqlite3.SQLITE_DENY if commits else sqlite3.SQLITE_OK

    connection.set_authorizer(refuse)


def test_a_failed_commit_fails_every_unit_of_the_batch_and_all_later_ones(crowd: Crowd) -> None:
    told: list[StorageError] = []
    crowd.store.when_failed(told.append)
    fail_commits(crowd.store)
    done = crowd.run(*(crowd.appending(name) for name in "abcd"))
    assert [getattr(future.exception(), "code", None) for future in done] == ["audit_write_failed"] * 4
    with pytest.raises(StorageError, match="audit_write_failed"), crowd.store.unit():
        pass
    assert [error.code for error in told] == ["audit_write_failed"]
    assert crowd.names() == []


def test_who_asks_late_is_told_at_once_that_the_store_has_failed(crowd: Crowd) -> None:
    fail_commits(crowd.store)
    crowd.run(crowd.appending("a"))
    told: list[StorageError] = []
    crowd.store.when_failed(told.append)
    assert len(told) == 1


def test_a_body_that_swallows_the_loss_of_its_transaction_commits_nothing_at_all(crowd: Crowd) -> None:
    def lose(unit: Unit) -> None:
        crowd.append(unit, "half")
        with pytest.raises(sqlite3.IntegrityError):
            # SQLite itself rolls back the whole transaction here, as it does on a full disk.
            unit.connection.execute("INSERT OR ROLLBACK INTO orders VALUES ('half', 7)")
        with pytest.raises(sqlite3.OperationalError, match="underneath"):
            unit.connection.execute("INSERT INTO orders VALUES ('other half', 8)")

    done = crowd.run(crowd.appending("a"), lose)
    assert [getattr(future.exception(), "code", None) for future in done] == ["audit_write_failed"] * 2
    assert crowd.names() == []


def test_a_constraint_that_a_body_catches_costs_it_only_that_statement(crowd: Crowd) -> None:
    with crowd.store.unit() as unit:
        crowd.append(unit, "a")
        with pytest.raises(sqlite3.IntegrityError):
            unit.connection.execute("INSERT INTO orders VALUES ('a', 7)")
    assert crowd.names() == ["a"]


ENDS: list[Callable[[sqlite3.Connection], object]] = [
    lambda connection: connection.execute("COMMIT"),
    lambda connection: connection.execute(database.COMMIT.upper()),
    lambda connection: connection.execute("ROLLBACK"),
    lambda connection: connection.commit(),
    lambda connection: connection.executescript("SELECT 1"),
    lambda connection: connection.cursor(),
    lambda connection: connection.__enter__().__exit__(None, None, None),
]


@pytest.mark.parametrize("end", ENDS)
def test_a_body_cannot_end_the_transaction_that_it_shares(
    crowd: Crowd, end: Callable[[sqlite3.Connection], object]
) -> None:
    def meddle(unit: Unit) -> None:
        crowd.append(unit, "meddler")
        end(unit.connection)

    kept, meddled = crowd.run(crowd.appending("a"), meddle)
    assert kept.exception() is None
    assert isinstance(meddled.exception(), sqlite3.Error)
    assert crowd.names() == ["a"]


def test_a_unit_that_looks_finds_its_own_entry_and_its_neighbours(crowd: Crowd) -> None:
    def look(unit: Unit) -> object:
        seq = crowd.append(unit, "b")
        return unit.connection.execute("SELECT seq FROM audit_entries").fetchall(), seq

    _, second = crowd.run(crowd.appending("a"), look)
    assert second.result()[0] == ([(0,), (1,)], 1)


def test_a_unit_that_appends_nothing_waits_for_its_neighbours_and_has_no_receipt(crowd: Crowd) -> None:
    first, second = crowd.run(crowd.appending("a"), lambda _: None)
    assert first.exception() is None
    with pytest.raises(StorageError, match="no_receipt"):
        second.result()[1].receipt(0)
    assert crowd.names() == ["a"]


def test_a_thread_that_is_interrupted_strands_nobody(crowd: Crowd) -> None:
    def interrupt(unit: Unit) -> None:
        crowd.append(unit, "interrupted")
        raise KeyboardInterrupt

    done = crowd.run(crowd.appending("a"), interrupt, crowd.appending("b"), interrupt)
    assert [type(future.exception()) for future in done].count(KeyboardInterrupt) == 2
    assert crowd.names() == ["a", "b"]


def test_a_batch_whose_last_thread_never_comes_is_committed_by_one_that_waits(crowd: Crowd) -> None:
    # As if a thread had stood in line and been interrupted there: it is counted, and never takes its turn.
    waiting = crowd.store._writer._waiting  # pyright: ignore[reportPrivateUsage]
    waiting.append(None)
    with crowd.store.unit() as unit:
        seq = crowd.append(unit, "a")
    waiting.pop()
    assert unit.receipt(seq).seq == 0
    assert crowd.names() == ["a"]


def test_closing_commits_what_is_open(crowd: Crowd) -> None:
    closed = threading.Thread(target=crowd.store.close)

    def body(unit: Unit) -> int:
        seq = crowd.append(unit, "a")
        closed.start()
        writer = crowd.store._writer  # pyright: ignore[reportPrivateUsage]
        while not writer._waiting:  # pyright: ignore[reportPrivateUsage]
            pass
        return seq

    (done,) = crowd.run(body)
    closed.join()
    seq, unit = done.result()
    assert unit.receipt(seq).seq == 0


def test_a_batch_is_bounded_so_that_other_processes_get_their_turn(crowd: Crowd) -> None:
    def run(name: str) -> None:
        for number in range(40):
            with crowd.store.unit() as unit:
                crowd.append(unit, f"{name}-{number}")

    before = crowd.checkpoints()
    threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(crowd.names()) == 16 * 40
    with crowd.store.read() as connection:
        sizes = [row[0] for row in connection.execute("SELECT size FROM audit_checkpoints ORDER BY size")]
    assert max(new - old for old, new in pairwise(sizes)) <= UNITS_PER_BATCH_MAX
    assert crowd.checkpoints() - before < 16 * 40, "no two units shared a commit"


def test_nobody_is_left_waiting_for_a_thread_that_does_not_come_again(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units stay open for those who just left a batch: whoever of them stops must not strand the rest."""
    monkeypatch.setattr(commits, "_PATIENCE_S", 3_600.0)  # nothing but the protocol itself lets anybody go

    def run(client: int) -> None:
        for number in range(1 + 7 * client):
            with crowd.store.unit() as unit:
                crowd.append(unit, f"{client}-{number}")

    threads = [threading.Thread(target=run, args=(client,), daemon=True) for client in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(crowd.names()) == sum(1 + 7 * client for client in range(12))
