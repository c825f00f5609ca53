"""Execution: parents advanced step by step, by whichever process is there; each child passes policy itself.

A step computes what is due from stored rows and the desk's clock, previews a child, writes its row in a
transaction that looks again, and submits. Two processes that step at once make one child, because the second
sees the first one's row; a process killed anywhere leaves rows that the next step settles. Nothing is sent
while trading is halted, and a parent whose child policy denies for good, or the venue rejects, stops.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import (
    DataError,
    ExecutionError,
    InputError,
    NeuralTraderError,
    RiskError,
    StorageError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import previews
from neural_trader_tools.orders.algos.parents import (
    Child,
    Parent,
    ParentState,
    children_of,
    find_parent,
    insert_child,
    insert_parent,
    list_parents,
    move_parent,
    postpone,
    void_child,
)
from neural_trader_tools.orders.algos.request import Request, admit, child_intent
from neural_trader_tools.orders.algos.volumes import traded_between
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.judge import is_halted
from neural_trader_tools.orders.order_ids import order_id_of, random_id
from neural_trader_tools.orders.valuation import Pricer

RETRY = timedelta(seconds=60)
SPACING = timedelta(seconds=11)
"""Between two steps of a parent that send something, by the machine's clock."""
CHILDREN_MAX = 2_000
PASSING = frozenset(
    {
        "session_closed",
        "quote_stale",
        "quote_unknown",
        "message_rate",
        "desk_message_rate",
        "duplicate_order",
        "witness_late",
        "halted",
    }
)
"""Rules whose denial time alone may lift: the parent waits, and asks again a minute later."""

_REFUSED = frozenset({OrderState.DENIED, OrderState.REJECTED, OrderState.EXPIRED})
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Execution:
    """Starts, advances and cancels the parents of one store over one desk."""

    store: Store
    desk: Desk
    archive: Archive
    replay: ReplayClock
    clock: Clock
    new_id: Callable[[str], str] = field(default=random_id)

    async def start(self, request: Request, caller: Caller) -> Parent:
        """Stores a parent, on the record; its children follow with `step`.

        Raises:
            InputError: the plan is over, there are no or too many legs, or the reason is too long.
            DataError: a symbol is unknown.
            RiskError: `agent_required`, a person places no orders without an agent.
        """
        return await anyio.to_thread.run_sync(self._start, request, caller)

    async def cancel(self, parent_id: str, caller: Caller) -> Parent:
        """Stops a parent from sending and cancels what of it works; one that is over stays as it is.

        Raises:
            InputError: `unknown_parent`.
            RiskError: it belongs to another agent.
        """
        await anyio.to_thread.run_sync(self._ask_cancel, parent_id, caller)
        await self._advance(await self._parent(parent_id))
        return await self._parent(parent_id)

    async def step(self) -> int:
        """Advances every open parent once and returns how many children were sent.

        Raises:
            StorageError: the log cannot be written any more.
        """
        sent = 0
        for parent in await self._reading(partial(list_parents, open_only=True)):
            try:
                sent += await self._advance(parent)
            except StorageError:
                raise
            except NeuralTraderError as error:  # the others may still be advanced
                _log.warning("parent.waits", parent_id=parent.parent_id, error=str(error))
        return sent

    async def keep_stepping(self, *, every_s: float = 2.0) -> None:
        """Steps for ever: run it in a task group of the server's lifespan.

        Raises:
            StorageError: the log cannot be written any more; the process must stop.
        """
        while True:
            await self.step()
            await anyio.sleep(every_s)

    async def children(self, parent_id: str) -> list[Child]:
        """Returns the children of a parent."""
        return await self._reading(lambda connection: children_of(connection, parent_id))

    async def _advance(self, parent: Parent) -> int:
        for child in await self.children(parent.parent_id):
            if child.is_pending:
                await self._settle(parent, child)
        parent = await self._parent(parent.parent_id)
        if parent.state == ParentState.CANCELING:
            await self._wind_down(parent)
            return 0
        sent = 0
        if parent.state == ParentState.RUNNING and self.clock.now() >= parent.retry_time:
            for index in range(len(parent.legs)):
                sent += await self._send(parent, index)
        await anyio.to_thread.run_sync(self._finish, parent.parent_id)
        return sent

    async def _send(self, parent: Parent, index: int) -> int:
        """Sends the child of one leg that is due; returns how many were."""
        now, leg = self.replay.now(), parent.legs[index]
        volume = Decimal(0)
        if parent.plan.algorithm == "pov":
            look = partial(traded_between, self.archive, leg.symbol, parent.plan.start, now)
            volume = await anyio.to_thread.run_sync(look)
        children = await self.children(parent.parent_id)
        quantity = self._due(parent, index, children, now, volume)
        if not quantity:
            return 0
        if Pricer(self.archive, self.replay, now).split_factor(leg.symbol, parent.created_time) != 1:
            await self._stop(parent, f"a split of {leg.symbol} changed the shares; start the rest again")
            return 0
        intent = child_intent(parent, leg, quantity, len(children) + 1)
        if await self._reading(lambda connection: is_halted(connection, intent)):
            return 0
        try:
            preview = await self.desk.preview(intent, parent.caller)
        except RiskError as error:  # it previews too much, or too many orders of its wait
            await self._wait(parent, error.what)
            return 0
        except (DataError, InputError) as error:
            await self._stop(parent, error.what)
            return 0
        if preview.verdict.decision == "deny":
            reasons = [reason.model_dump() for reason in preview.verdict.reasons]
            await self._refused(parent, reasons)
            return 0

        def write() -> bool:
            with self.store.unit() as unit:
                latest = find_parent(unit.connection, parent.parent_id)
                known = children_of(unit.connection, parent.parent_id)
                if latest.state != ParentState.RUNNING or (
                    self._due(latest, index, known, now, volume) != quantity
                ):
                    return False  # somebody else was faster; this preview will expire
                insert_child(
                    unit.connection,
                    parent.parent_id,
                    leg=index,
                    quantity=quantity,
                    preview_id=preview.preview_id,
                    client_order_id=order_id_of(preview.preview_id),
                )
                # The next one may be the same order, which policy takes for a mistake within ten seconds.
                until = self.clock.now() + SPACING
                postpone(unit.connection, parent.parent_id, until=until, why="")
                return True

        if not await anyio.to_thread.run_sync(write):
            return 0
        if preview.verdict.decision == "allow":
            await self._submit(parent, preview.preview_id)
        return 1

    def _due(
        self, parent: Parent, index: int, children: list[Child], now: datetime, volume: Decimal
    ) -> Decimal:
        own = [child for child in children if child.leg == index]
        if len(children) >= CHILDREN_MAX:
            return Decimal(0)
        if parent.plan.algorithm == "now" and any(not child.void for child in own):
            return Decimal(0)  # a basket's order is sent once; whoever cancels it means it
        sent = sum((child.sent for child in own), Decimal(0))
        return parent.plan.child(parent.legs[index], sent, now, volume)

    async def _settle(self, parent: Parent, child: Child) -> None:
        """Brings a child that is no order yet to one, or makes sure that it never becomes one."""
        preview = await self._reading(lambda connection: previews.find_preview(connection, child.preview_id))
        if preview.client_order_id is not None:
            return
        expired = self.clock.now() >= preview.expires_time
        if parent.state != ParentState.RUNNING or expired or preview.state in _REFUSED:
            await anyio.to_thread.run_sync(self._void, child, "expired" if expired else "not sent any more")
            if parent.state == ParentState.RUNNING and preview.verdict.decision != "allow":
                await self._stop(parent, f"child {child.number} was not approved")
        elif preview.state in {OrderState.PREVIEWED, OrderState.APPROVED}:
            await self._submit(parent, child.preview_id)

    def _void(self, child: Child, why: str) -> None:
        with self.store.unit() as unit:
            if previews.find_preview(unit.connection, child.preview_id).client_order_id is None:
                # From here on nobody can submit it, so that it is safe to send its quantity again.
                previews.update_preview(unit.connection, child.preview_id, state=OrderState.REJECTED)
                void_child(unit.connection, child, why)

    async def _submit(self, parent: Parent, preview_id: str) -> None:
        try:
            await self.desk.submit(preview_id, parent.caller)
        except RiskError as error:
            if error.code == "denied":
                await self._refused(parent, error.facts.get("reasons", []))
            else:  # it waits for a person or for the venue, or another process sent it: the next step sees
                _log.info("child.waits", preview_id=preview_id, code=error.code)

    async def _refused(self, parent: Parent, reasons: list[dict[str, Any]]) -> None:
        """Waits where time may lift every deciding rule, else stops."""
        why = "; ".join(str(reason["message"]) for reason in reasons)
        rules = {str(reason["rule"]) for reason in reasons}
        if rules and rules <= PASSING:
            await self._wait(parent, why, SPACING if rules == {"duplicate_order"} else RETRY)
        else:
            await self._stop(parent, f"policy denied a child: {why}")

    async def _wait(self, parent: Parent, why: str, retry: timedelta = RETRY) -> None:
        def write() -> None:
            with self.store.unit() as unit:
                postpone(unit.connection, parent.parent_id, until=self.clock.now() + retry, why=why)

        await anyio.to_thread.run_sync(write)

    async def _stop(self, parent: Parent, why: str) -> None:
        await self._move(parent, ParentState.STOPPED, parent.caller, why)

    async def _move(self, parent: Parent, state: ParentState, caller: Caller, why: str) -> None:
        def write() -> None:
            with self.store.unit() as unit:
                move_parent(unit, parent, state, caller=caller, why=why)

        await anyio.to_thread.run_sync(write)

    async def _wind_down(self, parent: Parent) -> None:
        """Cancels what works; the parent is canceled when nothing does any more."""
        for child in await self.children(parent.parent_id):
            if child.is_working:
                try:
                    await self.desk.cancel(child.client_order_id, parent.caller)
                except ExecutionError as error:
                    _log.warning(
                        "child.not_canceled", client_order_id=child.client_order_id, error=str(error)
                    )
        if not any(child.is_working or child.is_pending for child in await self.children(parent.parent_id)):
            await self._move(parent, ParentState.CANCELED, parent.caller, parent.detail)

    def _finish(self, parent_id: str) -> None:
        """Ends a parent that is filled, has no more to send, or whose child the venue rejected."""
        with self.store.unit() as unit:
            parent = find_parent(unit.connection, parent_id)
            children = children_of(unit.connection, parent_id)
            if parent.state != ParentState.RUNNING:
                return
            filled = [
                sum((child.filled for child in children if child.leg == index), Decimal(0))
                for index in range(len(parent.legs))
            ]
            told = ", ".join(
                f"{format_decimal(done)} of {format_decimal(leg.quantity)} {leg.symbol}"
                for done, leg in zip(filled, parent.legs, strict=True)
            )
            at_rest = not any(child.is_pending or child.is_working for child in children)
            if all(done >= leg.quantity for done, leg in zip(filled, parent.legs, strict=True)):
                move_parent(unit, parent, ParentState.DONE, caller=parent.caller, why=f"filled {told}")
            elif any(child.state == OrderState.REJECTED for child in children):
                why = f"the venue rejected a child; filled {told}"
                move_parent(unit, parent, ParentState.STOPPED, caller=parent.caller, why=why)
            elif at_rest and self._is_over(parent, children):
                move_parent(unit, parent, ParentState.ENDED, caller=parent.caller, why=f"filled {told}")

    def _is_over(self, parent: Parent, children: list[Child]) -> bool:
        if len(children) >= CHILDREN_MAX:
            return True
        if parent.plan.algorithm == "now":
            sent = {child.leg for child in children if not child.void}
            return len(sent) == len(parent.legs)
        return self.replay.now() > parent.plan.end

    def _start(self, request: Request, caller: Caller) -> Parent:
        parent = admit(
            request,
            caller,
            parent_id=self.new_id("pa"),
            archive=self.archive,
            now=self.replay.now(),
            wall=self.clock.now(),
        )
        with self.store.unit() as unit:
            insert_parent(unit, parent)
        return self._read(lambda connection: find_parent(connection, parent.parent_id))

    def _ask_cancel(self, parent_id: str, caller: Caller) -> None:
        with self.store.unit() as unit:
            parent = find_parent(unit.connection, parent_id)
            if caller.agent not in {"", parent.caller.agent}:
                raise RiskError(
                    "parent_not_yours",
                    f"{parent_id} belongs to agent {parent.caller.agent}",
                    "cancel your own parents; a person may cancel any",
                )
            move_parent(unit, parent, ParentState.CANCELING, caller=caller, why="cancel asked for")

    async def _parent(self, parent_id: str) -> Parent:
        return await self._reading(lambda connection: find_parent(connection, parent_id))

    async def _reading(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        return await anyio.to_thread.run_sync(self._read, query)

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.store.read() as connection:
            return query(connection)
