"""Prices as the exchange sees them: quotes, prints and bars, in price units, each at its time.

A feed's or the archive's floats are brought to the nearest 1e-4 USD here and nowhere else.
"""

from dataclasses import dataclass

from neural_trader_tools.brokers.exchange import amounts


@dataclass(frozen=True, slots=True)
class QuoteSeen:
    """The best bid and ask; a side without a price is 0."""

    symbol: str
    time_ns: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int

    @classmethod
    def of(
        cls, symbol: str, time_ns: int, bid: float, bid_size: float, ask: float, ask_size: float
    ) -> "QuoteSeen":
        """Makes one from observed prices and sizes in shares."""
        return cls(
            symbol,
            time_ns,
            amounts.nearest_price(bid),
            round(bid_size * amounts.SHARE),
            amounts.nearest_price(ask),
            round(ask_size * amounts.SHARE),
        )


@dataclass(frozen=True, slots=True)
class PrintSeen:
    """A trade that the market made."""

    symbol: str
    time_ns: int
    price: int
    size: int

    @classmethod
    def of(cls, symbol: str, time_ns: int, price: float, size: float) -> "PrintSeen":
        """Makes one from an observed price and a size in shares."""
        return cls(symbol, time_ns, amounts.nearest_price(price), round(size * amounts.SHARE))


@dataclass(frozen=True, slots=True)
class BarSeen:
    """A complete bar; it is seen at its close, and filled orders that were there at its open.

    Attributes:
        time_ns: Its close: when it is seen.
        open_ns: Its open.
        volume: Nano-units.
    """

    symbol: str
    time_ns: int
    open_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int

    @classmethod
    def of(
        cls,
        symbol: str,
        open_ns: int,
        close_ns: int,
        prices: tuple[float, float, float, float],
        volume: float,
    ) -> "BarSeen":
        """Makes one from observed open, high, low, close and a volume in shares."""
        opening, high, low, close = (amounts.nearest_price(price) for price in prices)
        return cls(symbol, close_ns, open_ns, opening, high, low, close, round(volume * amounts.SHARE))


Seen = QuoteSeen | PrintSeen | BarSeen


@dataclass(slots=True)
class Tape:
    """What is known of one symbol's market.

    Attributes:
        last: Price of the newest print or close; before there is one the middle of the quote, or 0.
        last_ns: When that was.
        is_halted: Nothing trades.
    """

    symbol: str
    last: int = 0
    last_ns: int = 0
    quote: QuoteSeen | None = None
    is_halted: bool = False
    is_printed: bool = False

    def see(self, seen: Seen) -> None:
        """Remembers the newest; while nothing was printed, the middle of a quote is the last price."""
        if isinstance(seen, QuoteSeen):
            self.quote = seen
            if not self.is_printed:
                both = seen.bid and seen.ask
                self.last = (seen.bid + seen.ask) // 2 if both else seen.bid or seen.ask
                self.last_ns = seen.time_ns
        else:
            self.last = seen.close if isinstance(seen, BarSeen) else seen.price
            self.last_ns = seen.time_ns
            self.is_printed = True

    def reference(self, *, buying: bool) -> int:
        """Returns the price that a market order would roughly meet; 0 where nothing is known."""
        if self.quote is not None and self.quote.time_ns >= self.last_ns:
            side = self.quote.ask if buying else self.quote.bid
            if side:
                return side
        return self.last
