"""Reconciliation: what the venue knows of every order that is not finished, asked and booked.

An order in doubt is looked up, barred at the venue if the venue never saw it, and never sent again.
"""

from dataclasses import dataclass
from datetime import timedelta

import anyio
import anyio.to_thread
import structlog

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
from neural_trader_tools.brokers.port import Broker, BrokerReport
from neural_trader_tools.orders import book
from neural_trader_tools.orders.ledger import Ledger
from neural_trader_tools.orders.machine import WORKING

IN_DOUBT_AFTER = timedelta(seconds=5)
"""How long a submission may be in flight in some process before another asks the venue about it."""

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
            IntegrityError: a venue's answer contradicts what was ordered.
        """
        found: list[Discrepancy] = []
        for order in await anyio.to_thread.run_sync(self._working):
            if order.state in _IN_FLIGHT and self.clock.now() - order.updated_time < in_doubt_after:
                continue  # another process may be between its commit and its broker call
            try:
                report = await self._look_up(order)
                if report is None:
                    _log.error("reconcile.missing_at_venue", client_order_id=order.client_order_id)
                    continue
                if report.state == order.state and len(report.fills) == 0:
                    continue
                after = await anyio.to_thread.run_sync(self.ledger.record_report, report, caller, True)
            except (NetworkError, ExecutionError, DataError) as error:  # the others may still be settled
                _log.warning("reconcile.unsettled", client_order_id=order.client_order_id, error=str(error))
                continue
            if after != order.state:
                found.append(Discrepancy(order.client_order_id, order.state, after, report.detail))
        return found

    async def keep_settling(self, caller: Caller, *, every_s: float) -> None:
        """Settles at once and then for ever.

        Raises:
            StorageError: the log cannot be written any more; the process must stop.
            IntegrityError: a venue's answer contradicts what was ordered; the process must stop.
        """
        while True:
            try:
                for found in await self.settle(caller):
                    _log.info("reconcile.settled", client_order_id=found.client_order_id, state=found.after)
            except (StorageError, IntegrityError):
                raise
            except NeuralTraderError as error:  # such as prices that went missing: a later round may succeed
                _log.error("reconcile.failed", error=str(error))
            await anyio.sleep(every_s)

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
