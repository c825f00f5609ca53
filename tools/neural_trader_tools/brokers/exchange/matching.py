"""Matching: the price at which the market that was seen fills an order, by a stated rule.

| seen | market, triggered stop | limit |
|---|---|---|
| quote | the far side | on arrival the far side, later its own limit |
| print | the print's price | its limit, where the print went through it (or touched it, by the rules) |
| bar | the open, or where its stop was touched | the better of open and limit; its limit |

Pessimistic where a bar cannot tell: a stop is taken before a limit of the same group, a trailing stop is
moved by earlier bars only, and slippage always goes against the order, never beyond its limit.
"""

from dataclasses import dataclass
from math import isqrt

from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.prices import BarSeen, PrintSeen, QuoteSeen

UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class FillRules:
    """How generous the market is.

    Attributes:
        participation_bp: Share of a bar's or print's size that orders may take, in basis points; 0: all.
        limits_touch: A limit is filled where the market touches it, not only where it goes through it.
        fills_at_last: Without a quote, an order that arrives meets the last price at once; else the next.
        slippage_bp: Against market and stop orders, of the price.
        impact_bp: Besides, for taking a whole bar's or print's size; for less, by the square root of the
            share (Almgren et al., 2005).
    """

    participation_bp: int = 1_000
    limits_touch: bool = False
    fills_at_last: bool = False
    slippage_bp: int = 0
    impact_bp: int = 0

    def share_of(self, size: int) -> int:
        """Returns how much of a size orders may take, in nano-units."""
        return UNLIMITED if self.participation_bp == 0 else size * self.participation_bp // 10_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A price at which an order may be filled; `takes` says that it crosses the spread and so slips."""

    price: int
    takes: bool
    rule: str


def meet_quote(order: VenueOrder, quote: QuoteSeen, *, arriving: bool) -> Offer | None:
    """Returns what a quote offers to a working order."""
    far = quote.ask if order.is_buy else quote.bid
    if far == 0:
        return None
    if order.limit is None:
        return Offer(far, True, "the quote's far side")
    if not _within(order, far):
        return None
    if arriving:
        return Offer(far, True, "the quote's far side, within the limit")
    return Offer(order.limit, False, "its limit, which the quote crossed")


def meet_last(order: VenueOrder, last: int) -> Offer | None:
    """Returns what the last price offers to an order that arrives, where the rules let it trade there."""
    if last == 0 or not _within(order, last):
        return None
    return Offer(last, True, "the last price")


def meet_print(order: VenueOrder, seen: PrintSeen, rules: FillRules) -> Offer | None:
    """Returns what a print offers to a working order."""
    if order.limit is None:
        return Offer(seen.price, True, "the print's price")
    through = seen.price < order.limit if order.is_buy else seen.price > order.limit
    if through or (rules.limits_touch and seen.price == order.limit):
        return Offer(order.limit, False, "its limit, where a print went through it")
    return None


def meet_bar(order: VenueOrder, bar: BarSeen, rules: FillRules) -> Offer | None:
    """Returns what a bar offers to an order that worked at its open; a stop's trigger is part of it.

    Sets `triggered` where the bar touches the stop.
    """
    start = bar.open
    if order.waits_for_trigger:
        if not touched(order, bar.high if order.is_buy else bar.low):
            return None
        stop = order.stop or 0
        start = max(bar.open, stop) if order.is_buy else min(bar.open, stop)
        order.triggered = True
        if order.limit is not None:
            # Where the price went then a bar cannot tell: it fills there, or rests from the next bar on.
            return Offer(start, True, "where the stop was touched") if _within(order, start) else None
        return Offer(start, True, "the worse of the bar's open and the stop")
    if order.limit is None:
        return Offer(start, True, "the bar's open")
    if _within(order, start):
        return Offer(start, False, "the bar's open, better than the limit")
    extreme = bar.low if order.is_buy else bar.high
    through = extreme < order.limit if order.is_buy else extreme > order.limit
    if through or (rules.limits_touch and extreme == order.limit):
        return Offer(order.limit, False, "its limit, where the bar went through it")
    return None


def touched(order: VenueOrder, price: int) -> bool:
    """Tells whether a price is at or beyond an order's stop; a trailing stop may not have one yet."""
    if order.stop is None:
        return False
    return price >= order.stop if order.is_buy else price <= order.stop


def trail(order: VenueOrder, price: int) -> bool:
    """Moves a trailing stop after a new high (low, for a buy); tells whether it moved."""
    mark = order.high_water
    if mark is not None and (price >= mark if order.is_buy else price <= mark):
        return False
    order.high_water = price
    order.stop = order.trail_stop(price)
    return True


def slipped(order: VenueOrder, offer: Offer, rules: FillRules, *, taken: int, size: int) -> int:
    """Returns the price after slippage and impact, on the tick grid and within the limit.

    Args:
        order: What trades.
        offer: Where.
        rules: By how much.
        taken: Nano-units of it.
        size: Of what was seen; 0 where it says none.
    """
    price = offer.price
    if offer.takes:
        # millionths, so that a small share of an impact is not rounded away
        share = isqrt(taken * 10**12 // size) if size else 0
        millionths = rules.slippage_bp * 100 + rules.impact_bp * 100 * min(share, 10**6) // 10**6
        move = -(-price * millionths // 10**6)
        price = price + move if order.is_buy else max(price - move, 1)
    price = amounts.on_tick(price, "up" if order.is_buy else "down")
    if order.limit is not None:
        price = min(price, order.limit) if order.is_buy else max(price, order.limit)
    return price


def _within(order: VenueOrder, price: int) -> bool:
    if order.limit is None:
        return True
    return price <= order.limit if order.is_buy else price >= order.limit
