"""The tool `market_get_quotes`."""

from typing import Annotated

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.money import DecimalText
from neural_trader_governance.terms.term import Term
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
    *,
    symbols: Annotated[list[str], Field(description="1-50 tickers, such as AAPL")],
) -> QuotesResult:
    """Latest prices at the desk's clock (paper: the replay clock), each with its age and source."""
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise InputError(
            "invalid_symbols", f"{len(symbols)} symbols were given", f"give from 1 to {SYMBOLS_MAX}"
        )

    def read() -> QuotesResult:
        now = clock.now()
        return QuotesResult(clock_time=now, quotes=[_aged(symbol) for symbol in dict.fromkeys(symbols)])

    def _aged(symbol: str) -> AgedQuote:
        quote = clock.quote(symbol)
        age_s = (clock.now() - quote.event_time).total_seconds()
        return AgedQuote(**quote.model_dump(exclude={"known_time"}), age_s=age_s)

    return await anyio.to_thread.run_sync(read)
