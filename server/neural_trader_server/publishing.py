"""Publishing: what the audit log committed, and how far backtests are, told on the bus after the fact.

The governed path knows nothing of it: this reads the log as anybody could, from where the bus's newest copy
ends. What the bus misses is in the log, under its seq; several servers on one home publish the same ids.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import orjson
import structlog

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.store import Store
from neural_trader_tools.bus.events import AuditEvent, BacktestEvent, OrderEvent, subject_of
from neural_trader_tools.bus.port import Bus, Message
from neural_trader_tools.bus.subjects import AUDIT_ENTRY, NAME_LENGTH_MAX

if TYPE_CHECKING:
    from neural_trader_tools.backtest.ledger import BacktestRecord

POLL_S = 0.5
RETRY_S_MAX = 60.0
BATCH = 200
BACKLOG = 10_000
"""Of an old log, a bus that has no copy yet gets the newest entries only."""

_log = structlog.get_logger(__name__)

OpenRuns = Callable[[], "list[BacktestRecord]"]
EndedRun = Callable[[str], "Awaitable[BacktestRecord]"]


class Publishing:
    """Follows the log and the runs of this process.

    Args:
        store: The desk's; only read.
        make_bus: Makes the bus, None where it is off.
        open_runs: Tells which runs are open in this process.
        ended_run: Returns a run that has ended.
    """

    def __init__(
        self, store: Store, make_bus: Callable[[], Bus | None], open_runs: OpenRuns, ended_run: EndedRun
    ) -> None:
        self._store = store
        self._make_bus = make_bus
        self._open_runs = open_runs
        self._ended_run = ended_run
        self._told: dict[str, BacktestEvent] = {}
        self._next: int | None = None

    async def keep_publishing(self, *, every_s: float = POLL_S) -> None:
        """Publishes for ever; a bus that is away is logged once, and tried again later."""
        await anyio.sleep(every_s)  # who is served first should not wait for this
        bus: Bus | None = None
        pause_s = every_s
        try:
            while True:
                try:
                    if bus is None:
                        bus = await anyio.to_thread.run_sync(self._make_bus)
                        if bus is None:
                            return
                    await self.publish(bus)
                    pause_s = every_s
                except Exception as error:  # whatever it is, nobody trades the worse for it
                    if pause_s == every_s:
                        known = isinstance(error, NeuralTraderError)
                        _log.warning("bus_waits", error=str(error), exc_info=None if known else error)
                    pause_s = min(RETRY_S_MAX, 2 * pause_s)
                await anyio.sleep(pause_s)
        finally:
            if bus is not None:
                with anyio.CancelScope(shield=True):
                    await bus.aclose()

    async def publish(self, bus: Bus) -> int:
        """Publishes what is new; returns how many audit entries.

        Raises:
            NetworkError: the broker is away; the rest follows next time.
            StorageError: the bus is full, or a file cannot be read.
        """
        if self._next is None:
            self._next = await self._begin(bus)
        count = 0
        while True:
            audit, orders = await anyio.to_thread.run_sync(self._read, self._next)
            if not audit:
                break
            await bus.publish_all(orders)
            await bus.publish_all(audit)  # last: the newest of them is where we go on after a restart
            self._next += len(audit)
            count += len(audit)
        await self._publish_runs(bus)
        return count

    async def _begin(self, bus: Bus) -> int:
        size = (await anyio.to_thread.run_sync(self._store.head)).size
        newest = await bus.newest(AUDIT_ENTRY)
        if newest is not None and isinstance(newest.event, AuditEvent) and newest.event.audit_seq < size:
            return newest.event.audit_seq + 1
        return max(0, size - BACKLOG)  # also of another home's bus

    def _read(self, seq: int) -> tuple[list[Message], list[Message]]:
        with self._store.read() as connection:
            rows = connection.execute(
                "SELECT seq, time_us, type, agent, symbol, client_order_id, leaf_hash, entry"
                " FROM audit_entries WHERE seq >= ? ORDER BY seq LIMIT ?",
                (seq, BATCH),
            ).fetchall()
        audit: list[Message] = []
        orders: list[Message] = []
        for number, time_us, what, agent, symbol, order_id, leaf, entry in rows:
            text, leaf_hash = bytes(entry).decode(), bytes(leaf).hex()
            event = AuditEvent(number, what, leaf_hash, text, time_us * 1_000)
            message_id = f"audit-{number}-{leaf_hash[:16]}"
            audit.append(Message(AUDIT_ENTRY, event, message_id))
            if order_id and len(order_id) <= NAME_LENGTH_MAX:
                account, state = _told_by(text)
                time_ns = time_us * 1_000
                order = OrderEvent(order_id, symbol or "", account, agent, what, state, number, time_ns)
                orders.append(Message(subject_of(order), order, message_id))
        return audit, orders

    async def _publish_runs(self, bus: Bus) -> None:
        runs = self._open_runs()
        ended = [await self._ended_run(name) for name in set(self._told) - {run.run_id for run in runs}]
        for run in (*runs, *ended):
            time_ns = int((run.finished_time or run.created_time).timestamp() * 1e9)
            event = BacktestEvent(run.run_id, run.state, run.progress, time_ns)
            if self._told.get(run.run_id) != event:
                message_id = f"{run.run_id}-{run.state}-{run.progress:.4f}"
                await bus.publish(subject_of(event), event, message_id)
                self._told[run.run_id] = event
        for run in ended:
            del self._told[run.run_id]


def _told_by(entry: str) -> tuple[str, str]:
    """Returns the account and the order's state that an entry names, empty where it names none."""
    if not entry:  # moved to an archive
        return "", ""
    fields: dict[str, Any] = orjson.loads(entry)
    return str(fields.get("account", "")), str(fields.get("payload", {}).get("state", ""))[:40]
