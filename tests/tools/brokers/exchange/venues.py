"""An exchange in the test's hand, round the clock or with sessions, and short words to drive it."""

from datetime import date
from typing import Any

from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.hours import Hours, Session, round_the_clock
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.prices import BarSeen, PrintSeen, QuoteSeen
from neural_trader_tools.brokers.exchange.requests import OrderRequest
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.brokers.exchange.updates import Execution
from neural_trader_tools.brokers.exchange.venue import VenueRules

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
FIRST_DAY = 19_723
"""2024-01-01."""
START = FIRST_DAY * 24 * HOUR
DOLLAR = 10**6
"""In micros."""


def sessions() -> Hours:
    """Eighty days with a session from 14:30 to 21:00 UTC, as New York has in winter."""
    return Hours(
        [
            Session(day, day * 24 * HOUR + 870 * MINUTE, day * 24 * HOUR + 21 * HOUR)
            for day in range(FIRST_DAY, FIRST_DAY + 80)
        ]
    )


class Venue:
    """An exchange with one account, `paper`, and the stocks A, B and C."""

    def __init__(
        self,
        *,
        cash: int = 100_000,
        hours: Hours | None = None,
        start_ns: int = START,
        multiplier: int = 1,
        seed: int = 1,
        more: tuple[str, ...] = (),
        **rules: Any,
    ) -> None:
        self.account = Account("paper", "KEY", cash * DOLLAR, multiplier=multiplier, may_short=multiplier > 1)
        self.exchange = Exchange(
            hours or round_the_clock(date(2024, 1, 1), date(2024, 4, 1)),
            [
                *(Asset(symbol) for symbol in ("A", "B", *more)),
                Asset("C", is_fractionable=False, is_shortable=False),
            ],
            [self.account],
            venue=VenueRules(**rules),
            seed=seed,
            start_ns=start_ns,
        )
        self.executions: list[Execution] = []
        self.events: list[tuple[str, str]] = []

    def order(self, side: str, qty: object, symbol: str = "A", **terms: Any) -> VenueOrder:
        """Submits; a market day order unless the terms say otherwise."""
        given = {"symbol": symbol, "side": side, "type": "market", "time_in_force": "day"} | terms
        if "limit_price" in given and "type" not in terms:
            given["type"] = "stop_limit" if "stop_price" in given else "limit"
        elif "stop_price" in given and "type" not in terms:
            given["type"] = "stop"
        elif {"trail_price", "trail_percent"} & given.keys():
            given["type"] = "trailing_stop"
        if qty is not None:
            given["qty"] = qty
        order = self.exchange.submit("paper", OrderRequest.model_validate(given))
        self.drain()
        return order

    def cancel(self, order: VenueOrder) -> None:
        """Asks to cancel."""
        self.exchange.cancel("paper", order.id)
        self.drain()

    def quote(self, bid: float, ask: float, *, size: float = 1000, symbol: str = "A", at: int = 0) -> None:
        """Shows a quote, `at` nanoseconds after the exchange's time."""
        self.exchange.observe(QuoteSeen.of(symbol, self.exchange.now_ns + at, bid, size, ask, size))
        self.drain()

    def print(self, price: float, *, size: float = 1000, symbol: str = "A", at: int = SECOND) -> None:
        """Shows a print."""
        self.exchange.observe(PrintSeen.of(symbol, self.exchange.now_ns + at, price, size))
        self.drain()

    def bar(
        self,
        opening: float,
        high: float,
        low: float,
        close: float,
        *,
        volume: float = 1_000_000,
        symbol: str = "A",
        length: int = MINUTE,
    ) -> None:
        """Shows a bar that begins now."""
        now = self.exchange.now_ns
        self.exchange.observe(BarSeen.of(symbol, now, now + length, (opening, high, low, close), volume))
        self.exchange.advance(now + length)
        self.drain()

    def wait(self, nanoseconds: int) -> None:
        """Lets time pass."""
        self.exchange.advance(self.exchange.now_ns + nanoseconds)
        self.drain()

    def drain(self) -> None:
        """Collects what was told."""
        for update in self.exchange.drain().updates:
            self.events.append((update.event, update.order.id))
            if update.execution is not None:
                self.executions.append(update.execution)

    def told(self, order: VenueOrder) -> list[str]:
        """Returns the events of one order."""
        return [event for event, order_id in self.events if order_id == order.id]

    def fills(self, order: VenueOrder) -> list[tuple[float, float]]:
        """Returns (price, shares) of an order's fills."""
        return [
            (each.price / amounts.DOLLAR, each.quantity / amounts.SHARE)
            for each in self.executions
            if each.order_id == order.id
        ]

    def held(self, symbol: str = "A") -> float:
        """Returns the shares held."""
        return self.account.held(symbol) / amounts.SHARE

    @property
    def cash(self) -> float:
        """Dollars."""
        return self.account.cash / DOLLAR
