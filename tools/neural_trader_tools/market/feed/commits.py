"""Commits: what a feed's journal holds in memory goes to disk, in groups, beside everything else."""

import anyio
import anyio.to_thread

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.feed.journal import Journal

COMMIT_ROWS = 8_192
COMMIT_INTERVAL_S = 0.1


class Commits:
    """Commits one journal; one commit at a time.

    Args:
        journal: What is committed, and closed at the end.
        rows: So many events waiting are committed at once, without waiting for the interval.
        interval_s: How long an event waits for its commit at most, while `run` runs.
    """

    def __init__(self, journal: Journal, rows: int, interval_s: float) -> None:
        self.interval_s = interval_s
        self.problem = ""
        """Why the journal could not be written the last time, empty where it could."""
        self._journal = journal
        self._rows = rows
        self._one = anyio.Lock()
        self._full = anyio.Event()

    def notice(self) -> None:
        """Has `run` commit at once where enough waits."""
        if self._journal.waiting >= self._rows:
            self._full.set()

    async def commit(self) -> int:
        """Writes what waits to disk; returns how many events are acknowledged in all.

        Raises:
            StorageError: the disk refused; what was not acknowledged waits for the next commit.
        """
        # Once the journal has handed its entries out, only writing keeps them: no cancellation in between.
        async with self._one:
            with anyio.CancelScope(shield=True):
                taken = self._journal.take()
                try:
                    await anyio.to_thread.run_sync(self._journal.write, taken)
                except StorageError as error:
                    self.problem = str(error)
                    raise
                self.problem = ""
        return sum(self._journal.acknowledged.values())

    async def run(self) -> None:
        """Commits until it is cancelled; a disk that refuses is tried again: it may have room then."""
        while True:
            with anyio.move_on_after(self.interval_s):
                await self._full.wait()
            self._full = anyio.Event()
            try:
                await self.commit()
            except StorageError:
                await anyio.sleep(self.interval_s)

    async def close(self) -> None:
        """Commits the rest and seals the journal.

        Raises:
            StorageError: the disk refused the rest.
        """
        async with self._one:
            await anyio.to_thread.run_sync(self._journal.close)
