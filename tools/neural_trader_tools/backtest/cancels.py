"""Cancels: runs are canceled where they run, whichever process of the home is asked to.

Who is asked writes the request into `research.db`; who runs it looks there twice a second while it runs
anything, and ends what is named.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_tools.backtest.ledger import OPEN_STATES, State
from neural_trader_tools.backtest.trials import connected
from neural_trader_tools.telling import tell

LOOK_EVERY_S: Final = 0.5
OBEYED_WITHIN_S: Final = 20.0
"""How long who asked waits for the end; a guest of the sandbox is killed within seconds."""

_READ_EVERY_S: Final = 0.25
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS run_cancels (run_id TEXT PRIMARY KEY) STRICT"
_log = structlog.get_logger(__name__)


class _Run(Protocol):
    """A backtest or a sweep as it is kept."""

    @property
    def state(self) -> State: ...

    @property
    def progress(self) -> float: ...


RunT = TypeVar("RunT", bound=_Run)


async def ended_elsewhere(read: Callable[[], RunT], wait_s: float) -> RunT:
    """Returns a run of another process, after waiting for its end for at most that long.

    Whoever listens (`telling`) is told how far it is, as far as it is written down.

    Args:
        read: Returns it as it is kept.
        wait_s: 0 looks once.
    """
    record = await anyio.to_thread.run_sync(read)
    with anyio.move_on_after(wait_s):
        while record.state in OPEN_STATES:
            await tell(record.progress)
            await anyio.sleep(_READ_EVERY_S)
            record = await anyio.to_thread.run_sync(read)
    return record


class Cancels:
    """Requests to cancel; safe to call from any thread and several processes.

    Args:
        path: `research.db` of the home.
        scopes: What this process runs, by run_id; canceling a scope ends its run.
    """

    def __init__(self, path: Path, scopes: Mapping[str, anyio.CancelScope]) -> None:
        self._path = path
        self._scopes = scopes
        self._begun = anyio.Event()
        with connected(path) as connection:
            connection.execute(_SCHEMA)

    def begin(self) -> None:
        """Notes that this process runs something now."""
        self._begun.set()

    def ask(self, run_id: str) -> None:
        """Asks whatever process runs it to cancel a run."""
        with connected(self._path) as connection:
            connection.execute("INSERT OR IGNORE INTO run_cancels VALUES (?)", (run_id,))

    def take(self, run_ids: Collection[str]) -> list[str]:
        """Returns those of these runs that are to be canceled; they are not asked for any more."""
        marks = ", ".join("?" for _ in run_ids)
        with connected(self._path) as connection:
            rows = connection.execute(
                f"SELECT run_id FROM run_cancels WHERE run_id IN ({marks})",  # noqa: S608 - only marks
                tuple(run_ids),
            ).fetchall()
            asked = [str(row[0]) for row in rows]
            connection.executemany("DELETE FROM run_cancels WHERE run_id = ?", rows)
        return asked

    async def cancel_elsewhere(self, run_id: str, read: Callable[[], RunT]) -> RunT:
        """Has another process cancel a run, and waits until it is over.

        Args:
            run_id: The run's.
            read: Returns it as it is kept.

        Raises:
            InputError: `cancel_pending`: it is not over yet.
        """
        await anyio.to_thread.run_sync(self.ask, run_id)
        record = await ended_elsewhere(read, OBEYED_WITHIN_S)
        if record.state in OPEN_STATES:
            raise InputError(
                "cancel_pending",
                f"{run_id} runs in another server, which was asked to end it and did not within"
                f" {OBEYED_WITHIN_S:g} s",
                "look with backtest_get; it ends as soon as that server answers, or is called interrupted"
                " when another one starts",
            )
        return record

    async def obey(self, every_s: float = LOOK_EVERY_S) -> None:
        """Ends what others ask to end, for ever; while this process runs nothing, it does not look."""
        while True:
            await self._begun.wait()
            await anyio.sleep(every_s)
            if not self._scopes:
                self._begun = anyio.Event()
                continue
            try:
                asked = await anyio.to_thread.run_sync(self.take, tuple(self._scopes))
            except NeuralTraderError as error:  # the run goes on, and who asked is told so
                _log.warning("cancels_not_read", error=str(error))
                continue
            for run_id in asked:
                if run_id in self._scopes:
                    _log.info("run_canceled_elsewhere", run_id=run_id)
                    self._scopes[run_id].cancel()
