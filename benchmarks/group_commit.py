"""Group commit without a log: what threads that hand their bytes to one committer can reach at most.

Two floors beside the store, with the same threads and the same bytes per entry: a plain SQLite table
(WAL, synchronous=FULL, no index, one insert per entry and one commit per batch), and an appended
file with one fdatasync per batch. Neither signs, chains, validates or indexes anything.
"""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Peer(Protocol):
    """A place where a thread puts an entry and returns when it is durable."""

    def put(self) -> None:
        """Makes one entry durable."""
        ...

    def close(self) -> None:
        """Ends the committer."""
        ...


class _Committer:
    """One thread that takes whatever waits, makes it durable, and lets those go who waited."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._queue: queue.SimpleQueue[threading.Lock | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self) -> None:
        """Makes one entry durable."""
        gate = threading.Lock()
        gate.acquire()
        self._queue.put(gate)
        gate.acquire()

    def close(self) -> None:
        """Ends the committer."""
        self._queue.put(None)
        self._thread.join()

    def commit(self, count: int) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while (gate := self._queue.get()) is not None:
            gates = [gate]
            while not self._queue.empty():
                if (gate := self._queue.get()) is not None:
                    gates.append(gate)
            self.commit(len(gates))
            for gate in gates:
                gate.release()


class SqliteGroupCommit(_Committer):
    """A plain table and one commit per batch."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry BLOB) STRICT")
        super().__init__(data)

    def commit(self, count: int) -> None:
        """Inserts and commits so many entries."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO entries (entry) VALUES (?)", [(self._data,)] * count)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Ends the committer and closes the file."""
        super().close()
        self._connection.close()


class FileGroupCommit(_Committer):
    """An append and one fdatasync per batch."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        super().__init__(data)

    def commit(self, count: int) -> None:
        """Appends and syncs so many entries."""
        os.write(self._file, self._data * count)
        os.fdatasync(self._file)

    def close(self) -> None:
        """Ends the committer and closes the file."""
        super().close()
        os.close(self._file)


def per_s(clients: int, put: Callable[[], object], *, duration_s: float) -> float:
    """Returns how many puts a second so many threads make durable, each waiting for its own."""
    counts = [0] * clients
    stop = time.perf_counter() + duration_s

    def run(client: int) -> None:
        while time.perf_counter() < stop:
            put()
            counts[client] += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)
