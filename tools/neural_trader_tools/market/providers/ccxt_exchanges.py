"""Crypto exchanges through the package ccxt: public candles of spot pairs. No key is used, no order is made.

The package speaks to a hundred exchanges, each with its own limits: how far back candles go (Kraken serves
the newest 720 of an interval, whatever is asked), how many come at once, which intervals there are. Numbers
stay the exchange's own text on the way (`number = str`), so that a price is rounded once, to float64.
"""

import difflib
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from neural_trader_governance.errors import ConfigurationError, DataError, InputError
from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.packages import (
    Failure,
    PackageCalls,
    extra,
    failed,
    malformed,
    rate_limited,
    said,
)
from neural_trader_tools.market.providers.pages import CONTENT_MAX, Cursor, PageTurner
from neural_trader_tools.market.providers.port import (
    Capabilities,
    HistoryRequest,
    Page,
    RawBar,
    Refused,
    unsupported_interval,
)
from neural_trader_tools.market.providers.settings import CcxtSettings

NAME = "ccxt"
PARTS = ("bars",)
CANDLES = 500
"""What is asked for at once where the package does not know an exchange's own bound."""
_PAIR = re.compile(r"[A-Z0-9]+/[A-Z0-9]+")
_MILLISECOND = timedelta(milliseconds=1)


class CcxtExchange:
    """Implements `port.HistoryProvider`.

    Args:
        settings: Which exchange, and where.
        breaker: Of this exchange.
        budget: Of this exchange, beside the package's own spacing of requests.
        on_change: See `PackageCalls`.

    Raises:
        ConfigurationError: the extra is not installed, or no exchange was chosen.
        InputError: ccxt knows no such exchange.
    """

    def __init__(
        self,
        settings: CcxtSettings,
        *,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if not settings.exchange:
            raise ConfigurationError(
                "no_exchange",
                "ccxt speaks to many exchanges, and none was chosen",
                "name one, such as --exchange kraken, or set ccxt_exchange",
            )
        self._settings = settings
        self._package: Any = extra("ccxt.async_support", NAME)
        known: list[str] = self._package.exchanges
        if settings.exchange not in known:
            near = difflib.get_close_matches(settings.exchange, known, n=3)
            raise InputError(
                "unknown_exchange",
                f"ccxt has no exchange {settings.exchange!r:.40}",
                f"did you mean {' or '.join(near)}?" if near else "see https://docs.ccxt.com",
            )
        self.name = f"{NAME}-{settings.exchange}"
        self._exchange: Any = getattr(self._package, settings.exchange)(
            {
                "enableRateLimit": settings.url is None,  # a mirror's limits are its own: the budget's
                "timeout": int(settings.request_timeout_s * 1000),
                # A proxy of the environment has no business between two of our own processes.
                "aiohttp_trust_env": settings.url is None,
                "options": {"fetchMarkets": {"types": ["spot"]}},
            }
        )
        self._exchange.number = str
        self._exchange.enableLastJsonResponse = True
        if settings.url is not None:
            self._exchange.urls["api"] = _moved(self._exchange.urls["api"], settings.url)
        self._calls = PackageCalls(
            self.name, settings, self._judged, breaker=breaker, budget=budget, on_change=on_change
        )

    @property
    def dataset_id(self) -> str:
        """Of the archive: each exchange has its own prices."""
        return self.name

    @property
    def source(self) -> str:
        """The exchange, the package, the address."""
        place = f", from {self._settings.url}" if self._settings.url else ""
        return f"{self._exchange.name} candles by ccxt {self._package.__version__}{place}"[:400]

    @property
    def licence(self) -> str:
        """The terms."""
        return f"the terms of {self._exchange.name}: for your own use, not to be passed on"

    @property
    def capabilities(self) -> Capabilities:
        """What the exchange has."""
        return Capabilities(self._intervals(), has_actions=False, asset_classes=("crypto",))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._exchange.close()

    def check(self, request: HistoryRequest) -> None:
        """See `port.HistoryProvider.check`; whether the exchange lists a pair is seen when it is asked."""
        interval_duration(request.interval)
        if self._exchange.has.get("fetchOHLCV") is not True:
            raise InputError(
                "bars_not_offered", f"{self.name} serves no candles", "take another exchange: --exchange"
            )
        if request.interval not in (self._exchange.timeframes or {}):
            raise unsupported_interval(self.name, request.interval, self._intervals())
        for symbol in request.symbols:
            if not _PAIR.fullmatch(symbol) or not re.fullmatch(SYMBOL_PATTERN, symbol):
                raise InputError(
                    "symbol_not_offered",
                    f"{symbol!r:.40} is no pair of a spot market",
                    "write base and quote in upper case, such as BTC/USDT",
                )

    async def history(self, request: HistoryRequest, cursor: str | None = None) -> AsyncGenerator[Page]:
        """See `port.HistoryProvider.history`; one pair after the other."""
        self.check(request)
        at = Cursor.read(cursor, PARTS, request.symbols)
        turner = PageTurner(self.name)
        await self._call(self._exchange.load_markets)
        for symbol in request.symbols:
            self._listed(symbol)
        while at is not None:
            turner.turn(at)
            page, at = await self._page(request, at)
            turner.saw(page)
            yield page

    async def _page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor | None]:
        first, end = (to_epoch_us(moment) // 1000 for moment in (request.start, request.end))
        listed = int(self._exchange.markets[at.symbol].get("created") or 0)
        since = int(at.token) if at.token and at.token.isdecimal() else max(first, min(listed, end - 1))
        step = interval_duration(request.interval) // _MILLISECOND
        limit = self._exchange.feature_value(at.symbol, "fetchOHLCV", "limit") or CANDLES
        rows: list[list[object]] = await self._call(
            lambda: self._exchange.fetch_ohlcv(at.symbol, request.interval, since=since, limit=limit)
        )
        bars: list[RawBar] = []
        refused: list[Refused] = []
        newest = since - 1
        for row in rows:
            cells = ["" if cell is None else str(cell) for cell in row[:6]]
            if len(cells) < 6 or not cells[0].isdecimal():
                content = ",".join(cells)[:CONTENT_MAX]
                refused.append(Refused(at.symbol, "a candle without its time or a value", content))
                continue
            newest = max(newest, int(cells[0]))
            if since <= int(cells[0]) < end:
                bars.append(RawBar(at.symbol, *cells))
        # Nothing from here on is a stretch before the listing, without trades, or the end.
        reached = newest + step if newest >= since else since + limit * step
        more = at.after(str(reached)) if reached < end else at.next_symbol(PARTS[0], request.symbols)
        digest = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
        return Page(bars, more and more.text, digest, refused=refused), more

    async def _call(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Makes a call; the package takes an answer that is no JSON for one without candles."""

        async def checked() -> Any:
            self._exchange.last_json_response = None
            result = await action()
            if self._exchange.last_json_response is None:
                raise ValueError("an answer that is no JSON")
            return result

        return await self._calls.call(checked)

    def _listed(self, symbol: str) -> None:
        markets: dict[str, Any] = self._exchange.markets
        if symbol not in markets:
            near = difflib.get_close_matches(symbol, [name for name in markets if _PAIR.fullmatch(name)], n=3)
            raise InputError(
                "symbol_not_offered",
                f"{self.name} lists no pair {symbol}",
                f"did you mean {' or '.join(near)}?" if near else "look at the exchange's list of markets",
            )

    def _intervals(self) -> str:
        return ", ".join(self._exchange.timeframes or ()) or "none"

    def _judged(self, error: Exception) -> Failure:
        package = self._package
        if isinstance(error, package.RateLimitExceeded | package.DDoSProtection):
            return rate_limited(self.name, "ccxt_requests_per_minute", error)
        if isinstance(error, package.AuthenticationError | package.PermissionDenied):
            told = f"{self.name} does not serve this without an account ({said(error)})"
            return Failure(ConfigurationError("provider_plan", told, "take another exchange: --exchange"))
        if isinstance(error, package.OperationFailed):  # the network, maintenance, a broken answer
            return failed(self.name, error)
        if isinstance(error, package.BaseError):
            told = f"{self.name} refused the request ({said(error)})"
            return Failure(
                DataError("provider_refused", told, "check the symbols, the interval and the range")
            )
        return malformed(self.name, error)


def _moved(place: Any, url: str) -> Any:
    """Returns an exchange's addresses with another host before their paths."""
    if isinstance(place, str):
        return url + urlsplit(place).path
    if isinstance(place, dict):
        named = cast("dict[str, Any]", place)
        return {name: _moved(each, url) for name, each in named.items()}
    return place
