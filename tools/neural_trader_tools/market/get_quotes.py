"""The tool `market_get_quotes`: from a live feed where one has a newer price, else from the archive.

A replay clock that was set is the desk's present: no live price is shown then, which would be of its future.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import Clock, UtcTime
from neural_trader_governance.terms.money import DecimalText, price_tick, round_to_tick
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import FeedStanding, LastPrice, last_prices, moment_of
from neural_trader_tools.market.replay import ReplayClock

SYMBOLS_MAX = 50


class AgedQuote(Term):
    """A quote, and how old it is on the desk's clock."""

    symbol: str
    bid: DecimalText | None = Field(description="Null where the source has none")
    ask: DecimalText | None
    last: DecimalText
    event_time: UtcTime = Field(description="When the last price was made")
    age_s: float = Field(description="Seconds since then on the desk's clock")
    source: str


class QuotesResult(Term):
    """Quotes in the order asked for."""

    clock_time: UtcTime = Field(description="The desk's time: what is known by then is used")
    quotes: list[AgedQuote]


async def market_get_quotes(
    clock: ReplayClock,
    archive: Archive,
    machine: Clock,
    *,
    symbols: Annotated[list[str], Field(description="1-50 tickers, such as AAPL")],
) -> QuotesResult:
    """Latest prices at the desk's clock (paper: the replay clock), each with its age and source."""
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise InputError(
            "invalid_symbols", f"{len(symbols)} symbols were given", f"give from 1 to {SYMBOLS_MAX}"
        )

    def read() -> QuotesResult:
        wanted = list(dict.fromkeys(symbols))
        live = last_prices(archive.root, wanted) if clock.horizon() is None else {}
        now = machine.now()
        quotes = [_newest(clock, now, symbol, live.get(symbol)) for symbol in wanted]
        return QuotesResult(clock_time=now if live else clock.now(), quotes=quotes)

    return await anyio.to_thread.run_sync(read)


def _newest(
    clock: ReplayClock, now: datetime, symbol: str, live: tuple[LastPrice, FeedStanding] | None
) -> AgedQuote:
    """Returns the archive's price on the desk's clock, or a live one that is newer, on the machine's.

    Raises:
        DataError: neither has one.
    """
    try:
        quote = clock.quote(symbol)
    except DataError:
        if live is None:
            raise
    else:
        if live is None or quote.event_time >= moment_of(live[0].price_ns):
            age_s = (clock.now() - quote.event_time).total_seconds()
            return AgedQuote(**quote.model_dump(exclude={"known_time"}), age_s=age_s)
    price, standing = live
    made = moment_of(price.price_ns)
    return AgedQuote(
        symbol=symbol,
        bid=_on_tick(price.bid),
        ask=_on_tick(price.ask),
        last=_on_tick(price.price) or Decimal(repr(price.price)),
        event_time=made,
        age_s=round((now - made).total_seconds(), 3),
        source=f"feed {standing.feed}{'' if standing.is_running(now) else ', which is not running'}",
    )


def _on_tick(price: float | None) -> Decimal | None:
    if price is None:
        return None
    exact = Decimal(repr(price))
    return round_to_tick(exact, price_tick(exact), "nearest")
