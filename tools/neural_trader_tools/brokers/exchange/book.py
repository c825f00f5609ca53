"""The book of one symbol: its open orders, who is filled first, and how what was seen is shared."""

from neural_trader_tools.brokers.exchange import matching
from neural_trader_tools.brokers.exchange.matching import UNLIMITED, FillRules, Offer
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.prices import BarSeen, PrintSeen, QuoteSeen, Seen, Tape


class Book:
    """Open orders of a symbol. It decides prices and quantities; the exchange books them.

    Attributes:
        tape: What was seen of the market.
        orders: By id, in the order of their submission.
    """

    def __init__(self, symbol: str, rules: FillRules) -> None:
        self.tape = Tape(symbol)
        self.orders: dict[str, VenueOrder] = {}
        self._rules = rules
        self._left = {"buy": 0, "sell": 0}

    def see(self, seen: Seen) -> None:
        """Remembers what was seen, and how much of it may be taken."""
        self.tape.see(seen)
        if isinstance(seen, QuoteSeen):
            self._left = {"buy": seen.ask_size, "sell": seen.bid_size}
        else:
            share = self._rules.share_of(seen.size if isinstance(seen, PrintSeen) else seen.volume)
            self._left = {"buy": share, "sell": share}

    def offers(self, seen: Seen, *, in_session: bool) -> list[tuple[VenueOrder, Offer]]:
        """Returns who may be filled by what was seen, in price-time priority.

        Args:
            seen: What `see` was told last.
            in_session: Only orders for extended hours are met outside.
        """
        met = [
            (order, offer)
            for order in list(self.orders.values())
            if order.is_working
            and (in_session or order.extended_hours)
            and order.time_in_force != "cls"
            and (offer := self._offer(order, seen)) is not None
        ]
        met.sort(key=lambda pair: _priority(*pair))
        return met

    def offer_on_arrival(self, order: VenueOrder) -> tuple[Offer, bool] | None:
        """Returns what an arriving order meets at once, and whether its size is bounded; None to wait."""
        quote, last = self.tape.quote, self.tape.last
        if quote is not None and quote.time_ns >= self.tape.last_ns:
            if order.waits_for_trigger and not self._triggers(
                order, quote.ask if order.is_buy else quote.bid
            ):
                return None
            offer = matching.meet_quote(order, quote, arriving=True)
            return None if offer is None else (offer, True)
        if not self._rules.fills_at_last:
            return None
        if order.waits_for_trigger and not self._triggers(order, last):
            return None
        offer = matching.meet_last(order, last)
        return None if offer is None else (offer, False)

    def meets_at_once(self) -> bool:
        """Tells whether an order that arrives meets a price now rather than with the next thing seen."""
        quote = self.tape.quote
        return (quote is not None and quote.time_ns >= self.tape.last_ns) or (
            self._rules.fills_at_last and self.tape.last > 0
        )

    def take(self, order: VenueOrder, *, bounded: bool, seen: Seen | None) -> int:
        """Returns the quantity that an order gets of what is left, and takes it away; 0 where nothing is."""
        wanted = order.open_quantity
        if not bounded:
            return wanted
        left = self._left[order.side]
        got = min(wanted, left)
        if order.quantity % 10**9 == 0 and got < wanted:
            got = got // 10**9 * 10**9  # whole orders are filled in whole shares
        if got <= 0 or (order.time_in_force == "fok" and got < wanted):
            return 0
        if left < UNLIMITED:
            self._left[order.side] = left - got
            if not isinstance(seen, QuoteSeen | None):
                self._left = dict.fromkeys(self._left, left - got)  # a bar's volume has no sides
        return got

    def _offer(self, order: VenueOrder, seen: Seen) -> Offer | None:
        waited = order.waits_for_trigger
        if isinstance(seen, QuoteSeen):
            if waited and not self._stopped_by_quote(order, seen):
                return None
            return matching.meet_quote(order, seen, arriving=waited)
        if isinstance(seen, PrintSeen):
            if not waited:
                return matching.meet_print(order, seen, self._rules)
            return matching.meet_last(order, seen.price) if self._stopped(order, seen.price) else None
        if order.arrives_ns > seen.open_ns:
            return None  # it came while the bar was made: what of it was still to come, a bar does not say
        return self._bar_offer(order, seen)

    def _bar_offer(self, order: VenueOrder, bar: BarSeen) -> Offer | None:
        offer = matching.meet_bar(order, bar, self._rules)
        if order.type == "trailing_stop" and not order.triggered:
            matching.trail(order, bar.low if order.is_buy else bar.high)
        return offer

    def _stopped_by_quote(self, order: VenueOrder, quote: QuoteSeen) -> bool:
        price = quote.ask if order.is_buy else quote.bid
        return price > 0 and self._stopped(order, price)

    def _stopped(self, order: VenueOrder, price: int) -> bool:
        if order.type == "trailing_stop":
            matching.trail(order, price)
        return self._triggers(order, price)

    def _triggers(self, order: VenueOrder, price: int) -> bool:
        if price <= 0 or not matching.touched(order, price):
            return False
        order.triggered = True
        return True


def _priority(order: VenueOrder, offer: Offer) -> tuple[int, int, int]:
    """Who takes goes first (a stop before the limit of its group), then better prices, then older orders."""
    if offer.takes or order.limit is None:
        return (0, 0, order.sequence)
    return (1, -order.limit if order.is_buy else order.limit, order.sequence)
