"""Reconciliation: what the venue knows of every order that is not finished, asked and booked.

An order in doubt is looked up, barred at the venue if the venue never saw it, and never sent again. What
the venue contradicts becomes a break, and the orders of an agent whose lease ran out are canceled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance import leases
from neural_trader_governance.errors import (
    DataError,
    ExecutionError,
    IntegrityError,
    NetworkError,
    NeuralTraderError,
    StorageError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.orders import Order, OrderState
from neural_trader_tools.brokers.port import Broker, BrokerReport, Listing
from neural_trader_tools.orders import book
from neural_trader_tools.orders.ledger import Ledger, ask_cancel, refuse_replace
from neural_trader_tools.orders.machine import WORKING

IN_DOUBT_AFTER = timedelta(seconds=5)
"""How long a submission may be in flight in some process before another asks the venue about it."""

ENDED_LATELY = timedelta(minutes=15)
"""So long after an order ended a fill of it, which nobody was told of, is looked for at a reconnection."""

_MAY_FILL_LATE = frozenset({OrderState.CANCELED, OrderState.EXPIRED, OrderState.REPLACED})
_ENDED_MAX = 20
_CANCELABLE = WORKING - {OrderState.PENDING_CANCEL}
_STANDING = {OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED}
_LIST_FROM = 3
"""From so many orders on, a list costs fewer requests than asking about each."""
_IN_FLIGHT = {OrderState.SUBMITTED, OrderState.UNKNOWN}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that reconciliation found and settled."""

    client_order_id: str
    before: OrderState
    after: OrderState
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Settles the working orders of one store against one venue; any process may, at any time."""

    store: Store
    broker: Broker
    ledger: Ledger
    clock: Clock

    async def settle(
        self, caller: Caller, *, in_doubt_after: timedelta = IN_DOUBT_AFTER
    ) -> list[Discrepancy]:
        """Asks the venue about every order that is not finished and books what it answers.

        An order whose submission is older than `in_doubt_after` and unknown to the venue is barred
        there and recorded as canceled.

        Raises:
            StorageError: the log cannot be written any more.
            IntegrityError: a venue's answer contradicts what was ordered; it is on the record as a break,
                and the other orders were settled.
        """
        await anyio.to_thread.run_sync(self._cancel_for_lost_leases)
        found: list[Discrepancy] = []
        contradictions: list[IntegrityError] = []
        working = await anyio.to_thread.run_sync(self._working)
        unchanged = await self._unchanged(working)
        for order in working:
            if order.client_order_id in unchanged:
                continue
            if order.state in _IN_FLIGHT and self.clock.now() - order.updated_time < in_doubt_after:
                continue  # another process may be between its commit and its broker call
            try:
                settled = await self._settle_order(order, caller)
            except IntegrityError as error:
                _log.error("reconcile.break", client_order_id=order.client_order_id, error=str(error))
                contradictions.append(error)
                continue
            except (NetworkError, ExecutionError, DataError) as error:  # the others may still be settled
                _log.warning("reconcile.unsettled", client_order_id=order.client_order_id, error=str(error))
                continue
            if settled is not None:
                found.append(settled)
        if contradictions:
            raise contradictions[0]
        return found

    async def _unchanged(self, working: list[Order]) -> set[str]:
        """Returns which orders the venue's list has just as the desk has them: nobody asks about each."""
        standing = [order for order in working if order.state in _STANDING]
        if len(standing) < _LIST_FROM or not isinstance(self.broker, Listing):
            return set()
        try:
            listed = await self.broker.working()
        except NetworkError as error:
            _log.warning("reconcile.unlisted", error=str(error))
            return {order.client_order_id for order in standing}  # nothing is known of them, this time
        return {
            order.client_order_id
            for order in standing
            if listed.get(order.client_order_id) == (order.state.value, order.filled_quantity)
        }

    async def settle_one(self, client_order_id: str, caller: Caller) -> None:
        """Looks one order up and books what the venue says; what stays unclear is left to `settle`."""
        order = await anyio.to_thread.run_sync(self._find, client_order_id)
        if order.state not in WORKING:
            return
        try:
            await self._settle_order(order, caller)
        except (NetworkError, ExecutionError, DataError) as error:
            _log.warning("reconcile.unsettled", client_order_id=client_order_id, error=str(error))

    async def settle_ended(self, caller: Caller) -> None:
        """Looks up what ended lately without being filled whole: a fill may have come after, unheard."""
        for order in await anyio.to_thread.run_sync(self._ended_lately):
            try:
                report = await self.broker.order(order.client_order_id)
                if report is not None and report.fills:
                    await anyio.to_thread.run_sync(self.ledger.record_report, report, caller, True)
            except (NetworkError, ExecutionError, DataError, IntegrityError) as error:
                _log.warning("reconcile.unsettled", client_order_id=order.client_order_id, error=str(error))

    def _ended_lately(self) -> list[Order]:
        with self.store.read() as connection:
            ended = book.list_orders(connection, states=_MAY_FILL_LATE, limit=_ENDED_MAX)
        return [order for order in ended if self.clock.now() - order.updated_time < ENDED_LATELY]

    async def _settle_order(self, order: Order, caller: Caller) -> Discrepancy | None:
        report = await self._look_up(order)
        if report is None:
            await anyio.to_thread.run_sync(self._record_missing, order, caller)
            return None
        if order.state == OrderState.PENDING_REPLACE and report.state == "accepted":
            after = await anyio.to_thread.run_sync(self._settle_replacement, order, caller)
        elif report.state == order.state and not report.fills and not report.legs:
            return None
        else:
            after = await anyio.to_thread.run_sync(self.ledger.record_report, report, caller, True)
        if after == order.state:
            return None
        return Discrepancy(order.client_order_id, order.state, after, report.detail)

    async def keep_settling(
        self, caller: Caller, *, every_s: float, found: Callable[[Discrepancy], None] | None = None
    ) -> None:
        """Settles at once and then for ever; `found` is told of everything that was settled.

        Raises:
            StorageError: the log cannot be written any more; the process must stop.
        """
        while True:
            try:
                for each in await self.settle(caller):
                    _log.info("reconcile.settled", client_order_id=each.client_order_id, state=each.after)
                    if found is not None:
                        found(each)
            except StorageError:
                raise
            except (
                NeuralTraderError
            ) as error:  # such as a break, which is on the record and stops its account
                _log.error("reconcile.failed", error=str(error))
            await anyio.sleep(every_s)

    def _cancel_for_lost_leases(self) -> None:
        """Asks to cancel what an agent left working that stopped renewing its lease, on the record."""
        now = self.clock.now()
        with self.store.read() as connection:
            if not leases.run_out(connection, now=now):
                return
        with self.store.unit() as unit:
            for lease in leases.run_out(unit.connection, now=now):  # asked again: it may have been renewed
                orders = book.list_orders(
                    unit.connection, states=_CANCELABLE, agent=lease.agent, limit=100_000
                )
                leases.mark_lost(unit, lease, client_order_ids=[order.client_order_id for order in orders])
                caller = Caller(principal=lease.principal, agent=lease.agent)
                for order in orders:
                    ask_cancel(unit, order, caller, now=now, why="the agent's lease ran out")

    def _record_missing(self, order: Order, caller: Caller) -> None:
        detail = f"the venue does not know {order.client_order_id}, which the desk holds for {order.state}"
        self.ledger.record_break(order.client_order_id, "missing_at_venue", detail, caller)

    def _settle_replacement(self, order: Order, caller: Caller) -> OrderState:
        """Lets an order go on whose replacement ended without taking its place."""
        with self.store.unit() as unit:
            new = book.replacement_of(unit.connection, order.client_order_id)
            if new is not None and new.state in WORKING:
                return order.state
            return refuse_replace(unit, order, caller, now=self.clock.now())

    def _find(self, client_order_id: str) -> Order:
        with self.store.read() as connection:
            return book.find_order(connection, client_order_id)

    def _working(self) -> list[Order]:
        with self.store.read() as connection:
            return book.list_orders(connection, states=WORKING, limit=100_000)

    async def _look_up(self, order: Order) -> BrokerReport | None:
        if order.state in _IN_FLIGHT:
            return await self.broker.close_unknown(order.client_order_id)
        if order.state == OrderState.PENDING_CANCEL:
            # Who asked may have died before the venue heard of it; asking twice changes nothing.
            return await self.broker.cancel(order.client_order_id)
        return await self.broker.order(order.client_order_id)
