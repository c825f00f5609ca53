"""Watching: notices that an order or a run has changed, whichever process of this home changed it.

    orders://CLIENT_ORDER_ID       its state, what is filled, what the venue says
    backtest://RUN_ID/report       its state; of a sweep also

While nobody watches, nothing runs. Else the two databases are asked four times a second whether anything was
committed (a few microseconds each), and only then what became of what is watched. Many changes between two
looks are one, and a look that finds nothing new tells nobody.
"""

import functools
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.database import Version
from neural_trader_governance.errors import NeuralTraderError, StorageError
from neural_trader_governance.store import Store

LOOK_EVERY_S = 0.25

_ORDER = re.compile(r"orders://([A-Za-z0-9_.:\-]{1,100})/?")
_RUN = re.compile(r"backtest://([A-Za-z0-9_\-]{1,100})/report")
_ABSENT = ""

Tell = Callable[[str], Awaitable[None]]
"""Takes the address of what has changed."""

log = structlog.get_logger(__name__)


def is_watchable(uri: str) -> bool:
    """Tells whether there are changes of this address to hear of."""
    return _ORDER.fullmatch(uri) is not None or _RUN.fullmatch(uri) is not None


class Watching:
    """Tells whoever asks of changes of orders and runs. `keep` must run meanwhile.

    Args:
        store: Where orders are.
        research: Where runs are, `research.db`; it may not be there yet.
        every_s: How often to look while anything is watched.

    Attributes:
        tells: Each is told of every change; for the servers in this process.
    """

    def __init__(self, store: Store, research: Path, every_s: float = LOOK_EVERY_S) -> None:
        self.tells: list[Tell] = []
        self._store = store
        self._research = research
        self._every_s = every_s
        self._watched = Counter[str]()
        self._seen: dict[str, str] = {}
        self._wanted = anyio.Event()
        self._runs_version: Version | None = None
        self._versions: tuple[int, int] | None = None

    @property
    def watched(self) -> Collection[str]:
        """What somebody watches now."""
        return self._watched.keys()

    @asynccontextmanager
    async def watch(self, uris: Collection[str]) -> AsyncGenerator[None]:
        """Has changes of these addresses told while the body runs, from its first moment on.

        Raises:
            StorageError: a database cannot be read.
        """
        watchable = {uri for uri in uris if is_watchable(uri)}
        states = await self._read(watchable)
        for uri, state in states.items():  # where another watches it, what he was told last stands
            self._seen.setdefault(uri, state)
        self._watched.update(watchable)
        if watchable:
            self._wanted.set()
        try:
            yield
        finally:
            self._watched.subtract(watchable)
            for uri in watchable:
                if not self._watched[uri]:
                    del self._watched[uri], self._seen[uri]

    async def keep(self) -> None:
        """Looks for ever, but only while anything is watched."""
        try:
            while True:
                await self._wanted.wait()
                await anyio.sleep(self._every_s)
                if not self._watched:
                    self._wanted = anyio.Event()
                    continue
                try:
                    await self.look()
                except NeuralTraderError as error:  # those who watch read again; the desk has its own alarm
                    log.warning("watching_failed", error=str(error))
        finally:
            self._close()

    async def look(self) -> None:
        """Tells of what has changed since the last look.

        Raises:
            StorageError: a database cannot be read.
        """
        versions = self._store.version(), self._runs_committed()
        if versions == self._versions:
            return
        found = await self._read(set(self._watched))
        self._versions = versions  # asked before the read: what is committed meanwhile is seen again
        changed = [uri for uri, state in found.items() if self._seen.get(uri, state) != state]
        self._seen.update({uri: state for uri, state in found.items() if uri in self._watched})
        for uri in changed:
            for tell in list(self.tells):
                await tell(uri)

    async def _read(self, uris: Collection[str]) -> dict[str, str]:
        if not uris:
            return {}
        return await anyio.to_thread.run_sync(functools.partial(self._states, tuple(uris)))

    def _states(self, uris: Collection[str]) -> dict[str, str]:
        """Returns what each address would tell, shortly; equal texts mean that nothing changed."""
        orders = {uri: found[1] for uri in uris if (found := _ORDER.fullmatch(uri))}
        runs = {uri: found[1] for uri in uris if (found := _RUN.fullmatch(uri))}
        states = dict.fromkeys(uris, _ABSENT)
        if orders:
            with self._store.read() as connection:
                for uri, order in orders.items():
                    row = connection.execute(
                        "SELECT state, filled, filled_value, quantity, intent_hash, detail FROM orders"
                        " WHERE client_order_id = ?",
                        (order,),
                    ).fetchone()
                    states[uri] = _ABSENT if row is None else repr(row)
        if runs and self._research.exists():
            states |= _run_states(self._research, runs)
        return states

    def _runs_committed(self) -> int:
        if not any(_RUN.fullmatch(uri) for uri in self._watched) or not self._research.exists():
            return 0
        if self._runs_version is None:
            self._runs_version = Version(self._research)
        try:
            return self._runs_version.now()
        except sqlite3.Error as error:
            raise _unreadable(self._research, error) from error

    def _close(self) -> None:
        if self._runs_version is not None:
            self._runs_version.close()
            self._runs_version = None


def _run_states(path: Path, runs: dict[str, str]) -> dict[str, str]:
    states: dict[str, str] = {}
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=10.0, uri=True)
        try:
            for uri, run_id in runs.items():
                row = connection.execute(
                    "SELECT state FROM backtest_runs WHERE run_id = ?"
                    " UNION ALL SELECT state FROM backtest_sweeps WHERE run_id = ?",
                    (run_id, run_id),
                ).fetchone()
                states[uri] = _ABSENT if row is None else str(row[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    return states


def _unreadable(path: Path, error: sqlite3.Error) -> StorageError:
    return StorageError(
        "research_store", f"{path.name} could not be read ({error})", "check the disk and the file"
    )
