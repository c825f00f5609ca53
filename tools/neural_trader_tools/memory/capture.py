"""Automatic capture: every backtest, order and closed trade leaves a memory, by itself and once.

It follows the log, after the commit and in batches; no order waits for it. One process of a home captures at
a time. A memory's id is made of its event, and its record stands in the outbox in the transaction that puts
it on record: whoever takes over from a process that died does what that one left undone, and nothing twice.
"""

import fcntl
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance import alerts
from neural_trader_governance.alerts import AlertKind
from neural_trader_governance.errors import InputError, IntegrityError, NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_memory.limits import CAUSES_MAX
from neural_trader_memory.memory import Draft, Memory
from neural_trader_tools.memory import outbox
from neural_trader_tools.memory.events import Event, memory_id_of
from neural_trader_tools.memory.happenings import Happened, Happenings
from neural_trader_tools.memory.recording import entry_of

POLL_S: Final = 2.0
RETRY_S_MAX: Final = 60.0
BACKLOG: Final = 10_000
"""Of the log of a desk that had no capture yet, the newest entries are remembered."""
_QUIET_ENTRIES: Final = 500
_WAVES: Final = {"order": 0, "backtest": 0, "trade": 1, "reflection": 2}
"""What follows from something is kept after it."""

Regime = Callable[[str, datetime], Awaitable[list[float] | None]]

_log = structlog.get_logger(__name__)


class Capture:
    """Remembers what the log says happened.

    Args:
        memory: Where it is kept.
        store: The log, with the outbox beside it.
        happened: Reads the log.
        lock: A file; whoever holds its lock captures.
        desk: In whose name the desk puts memories on record.
        regime: The market's regime of a symbol at a moment; None where it has none.
        record_missed: Puts on record what was completed by a process that died before it could say so.
    """

    def __init__(
        self,
        memory: Memory,
        store: Store,
        happened: Happened,
        lock: Path,
        desk: Caller,
        *,
        regime: Regime,
        record_missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._memory = memory
        self._store = store
        self._happened = happened
        self._lock = lock
        self._desk = desk
        self._regime = regime
        self._record_missed = record_missed
        self._is_first = True
        self._seen = 0

    async def keep_capturing(self, *, every_s: float = POLL_S) -> None:
        """Captures for ever. A failure is an alert, once, and is tried again until it is none.

        It rests as long as it works, so that many orders at once do not wait for their memories' embedding.
        """
        pause_s, failing = every_s, False
        while True:
            await anyio.sleep(pause_s)
            began = anyio.current_time()
            try:
                await self.catch_up(batches_max=1)
            except Exception as error:
                pause_s = min(RETRY_S_MAX, 2 * pause_s)
                known = isinstance(error, NeuralTraderError)
                _log.warning("memory_capture_waits", error=str(error), exc_info=None if known else error)
                if not failing:
                    failing = await self._alert(f"what happens is not remembered for now: {error}")
            else:
                pause_s, failing = max(every_s, anyio.current_time() - began), False

    async def catch_up(self, *, thoroughly: bool = False, batches_max: int | None = None) -> int:
        """Remembers all that happened and is not remembered yet; returns how many memories that made.

        Args:
            thoroughly: Also look whether what was kept lately is still there, as after a power cut.
            batches_max: Leave the rest for later after so many.

        Raises:
            StorageError: log or memory cannot be read or written; what is on record follows next time.
            HostError: the embedder's weights are missing.
            ConfigurationError: the memory belongs to another embedder.
        """
        with self._alone() as mine:
            if not mine:
                return 0
            count = await self._restore(finished_too=thoroughly)
            if self._is_first:
                await self._record_missed()
                self._is_first = False
            done = 0
            while batches_max is None or done < batches_max:
                found = await anyio.to_thread.run_sync(self._read)
                if found is None:
                    break
                count += await self._remember(found)
                done += 1
            return count

    @contextmanager
    def _alone(self) -> Generator[bool]:
        """Yields whether this process captures while the context is open."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def _read(self) -> Happenings | None:
        """Returns what happened since, or None where nothing did; without events the place is only noted."""
        while True:
            with self._store.read() as connection:
                size = connection.execute("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entries").fetchone()[0]
                kept = outbox.read_cursor(connection)
            began = max(0, int(size) - BACKLOG) if kept is None else kept
            start = max(began, self._seen)
            if start >= size:
                return None
            found = self._happened.read(start)
            if found.events:
                return found
            self._seen = found.next_seq
            if kept is None or self._seen - kept >= _QUIET_ENTRIES:
                with self._store.unit() as unit:
                    outbox.write_cursor(unit.connection, self._seen)

    async def _remember(self, found: Happenings) -> int:
        named = {memory_id_of(self._store.origin, event.key): event for event in found.events}
        known = await self._memory.kept_of(named)
        count = 0
        for wave in range(max(_WAVES.values()) + 1):
            drafts = [
                draft
                for memory_id, event in named.items()
                if _WAVES[event.kind] == wave and memory_id not in known
                if (draft := await self._draft(memory_id, event)) is not None
            ]
            await self._keep(drafts)
            count += len(drafts)
        await anyio.to_thread.run_sync(self._move_on, found.next_seq)
        return count

    def _move_on(self, next_seq: int) -> None:
        with self._store.unit() as unit:
            outbox.write_cursor(unit.connection, next_seq)
        self._seen = next_seq

    async def _draft(self, memory_id: str, event: Event) -> Draft | None:
        try:
            regime = None
            if event.regime_time is not None:
                regime = await self._regime(event.symbols[0], event.regime_time)
            return await self._memory.draft(
                event.kind,
                event.text,
                agent=event.agent,
                symbols=event.symbols,
                data=event.data,
                event_time=min(event.event_time, self._memory.clock.now()),
                about_seq=event.about_seq,
                source="desk",
                trust=event.trust,
                causes=await self._causes(event),
                regime=regime,
                memory_id=memory_id,
            )
        except InputError as error:  # what cannot be remembered must not keep the rest from it
            await self._alert(f"{event.key} cannot be remembered: {error}")
            return None

    async def _causes(self, event: Event) -> list[str]:
        """Returns those of its causes that the agent still has, what the desk saw first."""
        names = [memory_id_of(self._store.origin, key) for key in event.causes]
        names += [name.partition("@")[0] for name in event.recalled]
        found: list[str] = []
        for name in dict.fromkeys(names):
            try:
                await self._memory.get(name, agent=event.agent)
            except (InputError, IntegrityError):  # forgotten since, or altered: `memory verify` says which
                continue
            found.append(name)
            if len(found) == CAUSES_MAX:
                break
        return found

    async def _keep(self, drafts: Sequence[Draft]) -> None:
        if not drafts:
            return
        seqs = await anyio.to_thread.run_sync(self._record, drafts)
        leaves = [self._store.receipt(seq).leaf_hash for seq in seqs]
        await self._memory.keep_all(list(zip(drafts, seqs, leaves, strict=True)))
        await anyio.to_thread.run_sync(self._finish, seqs)

    def _record(self, drafts: Sequence[Draft]) -> list[int]:
        with self._store.unit() as unit:
            seqs = [unit.append(entry_of(self._desk, draft)) for draft in drafts]
            for seq, draft in zip(seqs, drafts, strict=True):
                outbox.add(unit.connection, seq, draft.record)
        return seqs

    def _finish(self, seqs: Sequence[int]) -> None:
        with self._store.unit() as unit:
            outbox.finish(unit.connection, seqs)

    async def _restore(self, *, finished_too: bool) -> int:
        """Puts back what is on record and not in the memory: its process died, or the power failed."""
        with self._store.read() as connection:
            rows = outbox.waiting(connection, finished_too=finished_too)
        if not rows:
            return 0
        known = await self._memory.kept_of(record.memory_id for _, record in rows)
        missing = [
            (record, seq, self._store.receipt(seq).leaf_hash)
            for seq, record in rows
            if record.memory_id not in known
        ]
        if missing:
            await self._memory.restore(missing)
            _log.info("memories_put_back", count=len(missing))
        await anyio.to_thread.run_sync(self._finish, [seq for seq, _ in rows])
        return len(missing)

    async def _alert(self, message: str) -> bool:
        """Raises an alert; False where even that cannot be written, so that it is tried again."""

        def write() -> None:
            with self._store.unit() as unit:
                alerts.raise_alert(unit, caller=self._desk, kind=AlertKind.MEMORY, message=message)

        try:
            await anyio.to_thread.run_sync(write)
        except NeuralTraderError as error:
            _log.error("alert_not_raised", message=message, error=str(error))
            return False
        return True
