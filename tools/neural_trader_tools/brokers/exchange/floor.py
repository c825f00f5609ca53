"""The floor: orders start to work, meet prices, and end; fills are booked and groups follow."""

from typing import Literal

from neural_trader_tools.brokers.exchange import admission, amounts, groups
from neural_trader_tools.brokers.exchange.book import Book
from neural_trader_tools.brokers.exchange.hours import Hours, Session
from neural_trader_tools.brokers.exchange.matching import Offer, slipped, trail
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.prices import BarSeen, PrintSeen, Seen
from neural_trader_tools.brokers.exchange.registry import Registry
from neural_trader_tools.brokers.exchange.updates import Execution
from neural_trader_tools.brokers.exchange.venue import VenueRules

Ended = Literal["canceled", "expired", "rejected", "replaced"]


class Floor:
    """Works on what the registry holds.

    Args:
        registry: Orders, books and accounts.
        hours: When the exchange trades.
        venue: How it behaves.
    """

    def __init__(self, registry: Registry, hours: Hours, venue: VenueRules) -> None:
        self._registry = registry
        self._hours = hours
        self._venue = venue

    def start(self, order: VenueOrder) -> None:
        """Lets an order work, and meets it with the price that stands there, if one does."""
        registry = self._registry
        registry.set_status(order, "new")
        registry.tell("new", order)
        book = registry.book(order.symbol)
        if order.type == "trailing_stop" and (mark := book.tape.reference(buying=order.is_buy)):
            trail(order, mark)
        if book.tape.is_halted or order.time_in_force in {"opg", "cls"} or not book.meets_at_once():
            return
        if (found := book.offer_on_arrival(order)) is not None:
            offer, bounded = found
            self._take(book, order, offer, book.tape.quote if bounded else None, bounded=bounded)
        if order.time_in_force in {"ioc", "fok"}:
            self.end(order, "canceled", f"{order.time_in_force}: not filled at once")

    def meet(self, book: Book, seen: Seen, *, in_session: bool) -> None:
        """Fills what a price that was just seen fills, in price-time priority."""
        for order, offer in book.offers(seen, in_session=in_session):
            if order.is_working:  # a sibling may have ended it meanwhile
                self._take(book, order, offer, seen, bounded=True)
        if not in_session:
            return
        for order in list(book.orders.values()):
            made_ns = seen.open_ns if isinstance(seen, BarSeen) else seen.time_ns
            if order.is_working and order.arrives_ns <= made_ns:
                if order.time_in_force in {"ioc", "fok"}:
                    self.end(order, "canceled", f"{order.time_in_force}: not filled at once")
                elif order.time_in_force == "opg":
                    self.end(order, "canceled", "opg: not filled at the open")

    def close(self, book: Book, session: Session) -> None:
        """Fills orders for the close at the session's last price, and lets expire what lived for it."""
        tape = book.tape
        traded = session.open_ns < tape.last_ns <= session.close_ns and not tape.is_halted
        for order in list(book.orders.values()):
            if order.time_in_force == "cls" and order.is_open and traded:
                self._registry.set_status(order, "new")
                limit = order.limit
                if limit is None or (tape.last <= limit if order.is_buy else tape.last >= limit):
                    self._take(book, order, Offer(tape.last, False, "the close"), None, bounded=False)
        for order in list(book.orders.values()):
            if order.expires_on is not None and order.expires_on <= session.day:
                self.end(order, "expired", f"its session of {session.date} is over")

    def end(self, order: VenueOrder, status: Ended, why: str, *, alone: bool = False) -> None:
        """Ends an open order; its group follows, unless it ends `alone`."""
        if not order.is_open:
            return
        registry = self._registry
        order.note = why
        if status == "canceled":
            order.canceled_ns = registry.now_ns
        elif status == "expired":
            order.expired_ns = registry.now_ns
        elif status == "rejected":
            order.failed_ns = registry.now_ns
        else:
            order.replaced_ns = registry.now_ns
        registry.set_status(order, status)
        registry.reserve(order, 0)
        registry.tell(status, order)
        if not alone and order.group is not None:
            self._follow(groups.after_end(order, registry.group(order)), f"its entry was {status}")

    def _take(self, book: Book, order: VenueOrder, offer: Offer, seen: Seen | None, *, bounded: bool) -> None:
        rules = self._venue.fills
        size = seen.volume if isinstance(seen, BarSeen) else seen.size if isinstance(seen, PrintSeen) else 0
        if order.notional is not None and order.quantity == 0:
            # What it comes to is known only now; slippage for all of it, so that it is not overspent.
            wanted = amounts.quantity_for(order.notional, offer.price)
            price = slipped(order, offer, rules, taken=wanted, size=size)
            order.quantity = amounts.quantity_for(order.notional, price)
        quantity = book.take(order, bounded=bounded, seen=seen)
        if quantity:
            price = slipped(order, offer, rules, taken=quantity, size=size)
            self._fill(order, price, quantity, offer.rule)

    def _fill(self, order: VenueOrder, price: int, quantity: int, rule: str) -> None:
        registry = self._registry
        account = registry.accounts[order.account]
        fee = self._venue.fees.of(amounts.money(price, quantity), quantity)
        account.book(
            order.symbol,
            quantity=quantity if order.is_buy else -quantity,
            price=price,
            fee=fee,
            settles_on=self._settlement_day(),
        )
        order.filled += quantity
        order.value += price * quantity
        whole = order.open_quantity == 0
        if whole:
            order.filled_ns = registry.now_ns
            registry.set_status(order, "filled")
        elif order.status == "new":
            registry.set_status(order, "partially_filled")
        still = 0 if whole or not order.reserved else admission.to_reserve(registry, self._venue, order)
        registry.reserve(order, min(still, order.reserved))
        registry.touch(order)
        registry.touch_account(account.name)
        registry.counts["executions"] += 1
        execution = Execution(
            id=registry.chance.uuid("execution", registry.counts["executions"]),
            order_id=order.id,
            account=order.account,
            symbol=order.symbol,
            side=order.side,
            time_ns=registry.now_ns,
            price=price,
            quantity=quantity,
            fee=fee,
            filled=order.filled,
            left=order.open_quantity,
            position=account.held(order.symbol),
            rule=rule,
        )
        registry.tell("fill" if whole else "partial_fill", order, execution)
        if order.group is not None:
            following = groups.after_fill(order, registry.group(order))
            self._follow(following, "the other order of its group was filled")

    def _follow(self, following: list[tuple[VenueOrder, groups.Following]], why: str) -> None:
        for member, what in following:
            if what == "end":
                self.end(member, "canceled", why, alone=True)
            elif member.is_open:
                member.arrives_ns = self._registry.now_ns
                self.start(member)

    def _settlement_day(self) -> int:
        session = self._hours.current_or_next(self._registry.now_ns)
        for _ in range(self._venue.settlement_sessions):
            session = self._hours.current_or_next(session.close_ns)
        return session.day
