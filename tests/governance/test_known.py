"""Known: asked again and again, read once, and never older than the last commit of whichever process."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.errors import StorageError
from neural_trader_governance.known import Known
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

SCHEMA = "CREATE TABLE IF NOT EXISTS words (name TEXT PRIMARY KEY, word TEXT NOT NULL) STRICT;"


class Scene:
    """A store, a table of words, and how often it was read."""

    def __init__(self, path: Path) -> None:
        clock = SimulatedClock(datetime(2013, 3, 1, tzinfo=UTC))
        signer = SigningKey.generate("d.t/l")
        self.store = Store.open(path, origin="d.t/l", signer=signer, clock=clock, schemas=(SCHEMA,))
        self.known = Known[str, str | None](self.store, self._read)
        self.reads = 0

    def _read(self, connection: sqlite3.Connection, name: str) -> str | None:
        self.reads += 1
        row = connection.execute("SELECT word FROM words WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def say(self, name: str, word: str) -> None:
        with self.store.unit() as unit:
            unit.connection.execute("INSERT OR REPLACE INTO words VALUES (?, ?)", (name, word))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "desk.db")


def test_a_value_is_read_once_until_this_process_commits(scene: Scene) -> None:
    assert scene.known.of("a") is None
    scene.say("a", "one")
    assert [scene.known.of("a") for _ in range(9)] == ["one"] * 9
    scene.say("a", "two")
    assert scene.known.of("a") == "two"
    assert scene.reads == 3
    scene.store.close()


def test_another_process_that_commits_is_noticed_at_once(scene: Scene) -> None:
    scene.say("a", "one")
    assert scene.known.of("a") == "one"
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
    words = [sys.executable, "-c", program, str(scene.store.path), "UPDATE words SET word = 'edited'"]
    subprocess.run(words, check=True, timeout=60)
    assert scene.known.of("a") == "edited"
    scene.store.close()


def test_what_could_not_be_read_is_asked_again_and_a_closed_store_says_so(scene: Scene) -> None:
    failing = Known[str, str](scene.store, lambda connection, name: str(connection.execute(name).fetchone()))
    for _ in range(2):
        with pytest.raises(StorageError):
            failing.of("no SQL")
    scene.known.of("a")
    scene.store.close()
    with pytest.raises(StorageError, match="store_closed"):
        scene.known.of("a")
