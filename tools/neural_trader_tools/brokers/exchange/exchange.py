"""The exchange: takes orders, meets them with the market that it is shown, and tells what became of them.

One thread drives it: with requests (`submit`, `replace`, `cancel`), prices (`observe`) and time (`advance`).
It reads no clock and draws no chance but from its seed, so the same calls give the same fills, ids and
updates. After each call `drain` returns what changed, for whoever keeps it and tells clients.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Literal

from neural_trader_tools.brokers.exchange import admission, amounts, groups, rules
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.floor import Floor
from neural_trader_tools.brokers.exchange.hours import Hours
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.prices import BarSeen, Seen
from neural_trader_tools.brokers.exchange.registry import Changes, Registry
from neural_trader_tools.brokers.exchange.requests import OrderRequest, ReplaceRequest
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.brokers.exchange.venue import Chance, VenueRules

_What = Literal["arrive", "cancel", "replace", "open", "close"]


class Exchange:
    """A venue of its own.

    Args:
        hours: When it trades.
        assets: What can be traded; a symbol not listed is refused.
        accounts: Who may trade.
        venue: How it behaves.
        seed: Of ids and of all chance.
        start_ns: Its time at first.

    Attributes:
        registry: Orders, books and accounts, to read.
    """

    def __init__(
        self,
        hours: Hours,
        assets: Iterable[Asset],
        accounts: Iterable[Account],
        *,
        venue: VenueRules | None = None,
        seed: int = 0,
        start_ns: int,
    ) -> None:
        self.hours = hours
        self.venue = venue or VenueRules()
        self.registry = Registry(assets, accounts, self.venue.fills, Chance(seed), start_ns)
        self._floor = Floor(self.registry, hours, self.venue)
        self._due: list[tuple[int, int, _What, str]] = []
        self._dues = 0
        self._schedule_session()

    @property
    def now_ns(self) -> int:
        """Its time."""
        return self.registry.now_ns

    def drain(self) -> Changes:
        """Returns what changed since the last call, and forgets it."""
        return self.registry.drain()

    def restore(
        self, now_ns: int, accounts: Iterable[Account], orders: Iterable[VenueOrder], counts: dict[str, int]
    ) -> None:
        """Goes on where an exchange with the same seed stopped: what was on its way arrives now."""
        registry = self.registry
        registry.now_ns = max(now_ns, self.now_ns)
        registry.accounts.update({account.name: account for account in accounts})
        for name in registry.counts:
            registry.counts[name] = counts[name]
        self._due.clear()
        self._schedule_session()
        for order in orders:
            registry.restore(order)
            if order.status == "pending_new":
                what: _What = "replace" if order.replaces else "arrive"
                self._later(max(order.arrives_ns, self.now_ns), what, order.id)
            elif order.status == "pending_cancel":
                self._later(self.now_ns, "cancel", order.id)

    # Requests

    def submit(self, account_name: str, request: OrderRequest) -> VenueOrder:
        """Takes an order; where it arrives at once, it is met with the market at once.

        Raises:
            RefusedError: it is not taken; nothing changed.
        """
        registry = self.registry
        if registry.accounts[account_name].is_blocked:
            raise rules.forbidden("account is not allowed to trade")
        registry.require_new_client_id(account_name, request.client_order_id)
        rules.require_tradable(registry.assets.get(request.symbol), request)
        counted = registry.counts["orders"]
        planned = groups.planned(request, account_name, registry.chance, counted, self.now_ns)
        for order in planned:
            order.arrives_ns = self.now_ns + self._delay("order", order)
            rules.require_auction_ahead(order, self.hours, self.now_ns)
            if order.time_in_force != "gtc":
                order.expires_on = self.hours.current_or_next(order.arrives_ns).day
        entry = planned[0]
        needed = admission.admit(registry, self.venue, entry)
        for order in planned:
            registry.enter(order)
            if order.status == "pending_new":
                if order.arrives_ns > self.now_ns:
                    registry.tell("pending_new", order)
                self._later(order.arrives_ns, "arrive", order.id)
        registry.reserve(entry, needed)
        self._run_due(self.now_ns)
        return entry

    def cancel(self, account: str, order_id: str) -> None:
        """Asks to cancel an open order; until that arrives it may still be filled.

        Raises:
            RefusedError: unknown, or not open any more.
        """
        order = self.registry.order(account, order_id)
        if not order.is_open or order.status in {"pending_cancel", "pending_replace"}:
            raise rules.invalid(f'order is already in "{order.status}" state')
        delay = self._delay("cancel", order)
        if delay and order.is_working:
            self.registry.set_status(order, "pending_cancel")
            self.registry.tell("pending_cancel", order)
        self._later(self.now_ns + delay, "cancel", order.id)
        self._run_due(self.now_ns)

    def replace(self, account: str, order_id: str, request: ReplaceRequest) -> VenueOrder:
        """Asks for other terms; the answer takes the old order's place, if that is still open by then.

        Its quantity is what the old order leaves open (`qty`, where given, counts what is filled), so that
        every order's fills are its own.

        Raises:
            RefusedError: unknown, not working, or the terms are not allowed.
        """
        registry = self.registry
        old = registry.order(account, order_id)
        if not old.is_working or old.status in {"pending_cancel", "pending_replace"}:
            raise rules.invalid(f'cannot replace an order in "{old.status}" state')
        registry.require_new_client_id(account, request.client_order_id)
        counted = registry.counts["orders"]
        new = groups.replacement(old, request, registry.chance, counted, self.now_ns)
        if new.expires_on is None and new.time_in_force != "gtc":
            new.expires_on = self.hours.current_or_next(self.now_ns).day
        needed = admission.admit(registry, self.venue, new, instead_of=old)
        delay = self._delay("replace", new)
        new.arrives_ns = self.now_ns + delay
        registry.enter(new)
        # Both may be open for a while, but only one of them is filled: the larger need is held back.
        registry.reserve(new, max(needed - old.reserved, 0))
        if delay:
            registry.set_status(old, "pending_replace")
            registry.tell("pending_replace", old)
        self._later(new.arrives_ns, "replace", new.id)
        self._run_due(self.now_ns)
        return new

    # The market

    def observe(self, seen: Seen) -> None:
        """Shows the exchange a quote, a print or a bar; what is older than its time counts as seen now."""
        self._run_due(seen.time_ns - 1)
        registry = self.registry
        registry.now_ns = max(self.now_ns, seen.time_ns)
        book = registry.book(seen.symbol)
        book.see(seen)
        if book.orders and not book.tape.is_halted:
            made_ns = seen.open_ns if isinstance(seen, BarSeen) else seen.time_ns
            self._floor.meet(book, seen, in_session=self.hours.at(made_ns) is not None)

    def advance(self, now_ns: int) -> None:
        """Moves time forward: what is due by then happens, sessions open and close."""
        self._run_due(now_ns)
        self.registry.now_ns = max(self.now_ns, now_ns)

    def halt(self, symbol: str) -> None:
        """Stops trading of a symbol; orders are taken and wait."""
        self.registry.book(symbol).tape.is_halted = True

    def resume(self, symbol: str) -> None:
        """Lets a halted symbol trade again, from the next price on."""
        self.registry.book(symbol).tape.is_halted = False

    def pay_dividend(self, symbol: str, per_share_micros: int) -> None:
        """Pays a cash dividend to who holds shares; who is short owes it."""
        for account in self.registry.accounts.values():
            held = account.held(symbol)
            if held:
                amount = per_share_micros * held // amounts.SHARE
                account.cash += amount
                self.registry.note_activity(
                    account,
                    "DIV",
                    symbol,
                    amount=amount,
                    quantity=held,
                    per_share=amounts.money_text(per_share_micros),
                )

    def split(self, symbol: str, new: int, old: int) -> None:
        """Splits shares `new` for `old`: positions and prices change, open orders are canceled."""
        registry = self.registry
        book = registry.book(symbol)
        for order in list(book.orders.values()):
            why = f"a {new}-for-{old} split changed the shares; place it again"
            self._floor.end(order, "canceled", why, alone=True)
        for account in registry.accounts.values():
            position = account.positions.get(symbol)
            if position is not None and position.quantity:
                gained = position.split(new, old)
                registry.note_activity(
                    account, "SPLIT", symbol, amount=0, quantity=gained, per_share=f"{new}/{old}"
                )
        book.tape.last = book.tape.last * old // new
        book.tape.quote = None

    # Time

    def _delay(self, purpose: str, order: VenueOrder) -> int:
        jitter = self.venue.jitter_ns
        more = self.registry.chance.below(jitter + 1, purpose, order.id) if jitter else 0
        return self.venue.latency_ns + more

    def _later(self, time_ns: int, what: _What, key: str) -> None:
        self._dues += 1
        heapq.heappush(self._due, (time_ns, self._dues, what, key))

    def _schedule_session(self) -> None:
        session = self.hours.current_or_next(self.now_ns)
        if session.open_ns > self.now_ns:
            self._later(session.open_ns, "open", "")
        self._later(session.close_ns, "close", "")

    def _run_due(self, until_ns: int) -> None:
        handlers: dict[_What, Callable[[str], None]] = {
            "arrive": self._arrive,
            "cancel": self._cancel_arrives,
            "replace": self._replacement_arrives,
            "open": self._open_session,
            "close": self._close_session,
        }
        while self._due and self._due[0][0] <= until_ns:
            time_ns, _, what, key = heapq.heappop(self._due)
            self.registry.now_ns = max(self.now_ns, time_ns)
            handlers[what](key)

    def _arrive(self, order_id: str) -> None:
        order = self.registry.orders[order_id]
        if order.status != "pending_new":
            return
        chance = self.venue.reject_millionths
        if chance and self.registry.chance.below(10**6, "reject", order.id) < chance:
            self._floor.end(order, "rejected", "rejected by the venue")
            return
        waits = order.time_in_force in {"opg", "cls"} or not (
            order.extended_hours or self.hours.at(self.now_ns)
        )
        if waits:
            self.registry.set_status(order, "accepted")
            self.registry.tell("accepted", order)
        else:
            self._floor.start(order)

    def _cancel_arrives(self, order_id: str) -> None:
        order = self.registry.orders[order_id]
        if not order.is_open:
            self.registry.tell("order_cancel_rejected", order)
            return
        for member in groups.canceled_together(order, self.registry.group(order)):
            self._floor.end(member, "canceled", "canceled on request")

    def _replacement_arrives(self, order_id: str) -> None:
        registry = self.registry
        new = registry.orders[order_id]
        if new.status != "pending_new":
            return
        old = registry.orders[new.replaces or ""]
        if not old.is_open or new.quantity <= groups.filled_since(old, new):
            why = f"{old.id} is {old.status}: it cannot be replaced any more"
            self._floor.end(new, "rejected", why, alone=True)
            registry.tell("order_replace_rejected", old)
            return
        new.quantity -= groups.filled_since(old, new)
        held = new.reserved + old.reserved
        old.replaced_by = new.id
        self._floor.end(old, "replaced", f"replaced by {new.id}", alone=True)
        if held:
            registry.reserve(new, min(held, admission.to_reserve(registry, self.venue, new)))
        self._floor.start(new)

    def _open_session(self, _: str) -> None:
        session = self.hours.current_or_next(self.now_ns)
        for account in self.registry.accounts.values():
            account.settle(session.day)
            self.registry.touch_account(account.name)
        for book in list(self.registry.books.values()):
            for order in list(book.orders.values()):
                if order.status == "accepted" and order.time_in_force != "cls":
                    self._floor.start(order)

    def _close_session(self, _: str) -> None:
        session = self.hours.last_closed(self.now_ns)
        if session is not None:
            for book in list(self.registry.books.values()):
                self._floor.close(book, session)
        for account in self.registry.accounts.values():
            account.last_equity = account.equity(self.registry.price_of)
            self.registry.touch_account(account.name)
        self._schedule_session()
