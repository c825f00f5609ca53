"""Massive (formerly Polygon) over REST: aggregates of US stocks and ETFs, and their splits and dividends.

Bars come raw (`adjusted=false`) from `/v2/aggs/ticker/…/range/…`, one symbol at a time. Of its
`next_url` only the page token is used: followed as it stands, it could lead the key to another host.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from neural_trader_governance.errors import ConfigurationError, DataError
from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.pages import Cursor, PageTurner, checked_action, raw_bar
from neural_trader_tools.market.providers.port import (
    Capabilities,
    HistoryRequest,
    Page,
    RawAction,
    RawBar,
    Refused,
    unsupported_interval,
    unsupported_symbol,
)
from neural_trader_tools.market.providers.service import RestService
from neural_trader_tools.market.providers.settings import MassiveSettings

NAME = "massive"
KEY_ADVICE = "put the key into MASSIVE_API_KEY, or run: keyring set neural-trader massive"
BASES_MAX = 50_000
ACTIONS_MAX = 1_000
INTERVALS = "seconds, minutes and hours such as 5m, 1d, 1w"
PARTS = ("splits", "dividends", "bars")
_STOCK = re.compile(r"[A-Z][A-Z0-9]{0,9}(\.[A-Z]{1,3})?")
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw] | None = None
    next_url: str | None = None
    status: str = "OK"


class _Split(msgspec.Struct):
    symbol: str = msgspec.field(name="ticker")
    ex_date: str = msgspec.field(name="execution_date")
    split_from: float
    split_to: float
    id: str | int = ""


class _Dividend(msgspec.Struct):
    symbol: str = msgspec.field(name="ticker")
    ex_date: str = msgspec.field(name="ex_dividend_date")
    cash_amount: float
    currency: str | None = None
    id: str | int = ""


class Massive:
    """Implements `port.HistoryProvider`.

    Args:
        settings: Address and key.
        breaker: Of this provider.
        budget: Of this provider.
        on_change: See `RestService`.
    """

    name = NAME
    dataset_id = "massive-stocks"
    capabilities = Capabilities(intervals=INTERVALS, has_actions=True, asset_classes=("equity", "etf"))

    def __init__(
        self,
        settings: MassiveSettings,
        *,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._key = settings.api_key.get_secret_value() if settings.api_key else ""
        self._service = RestService(
            NAME,
            settings,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            secrets=(self._key,) if self._key else (),
            key_advice=KEY_ADVICE,
            breaker=breaker,
            budget=budget,
            on_change=on_change,
        )

    @property
    def source(self) -> str:
        """The service and the address."""
        return f"Massive (formerly Polygon) stock aggregates, from {self._settings.url}"[:400]

    @property
    def licence(self) -> str:
        """The terms."""
        return "Massive's terms of your subscription: for your own use, not to be passed on"

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._service.aclose()

    def check(self, request: HistoryRequest) -> None:
        """See `port.HistoryProvider.check`."""
        if not self._key:
            raise ConfigurationError(
                "provider_key_missing", f"there is no API key for {self._settings.url}", KEY_ADVICE
            )
        _range(request.interval)
        for symbol in request.symbols:
            if not _STOCK.fullmatch(symbol):
                raise unsupported_symbol("Massive", symbol)

    async def history(self, request: HistoryRequest, cursor: str | None = None) -> AsyncGenerator[Page]:
        """See `port.HistoryProvider.history`; one symbol after the other."""
        self.check(request)
        at = Cursor.read(cursor, PARTS, request.symbols)
        turner = PageTurner(NAME)
        while at is not None:
            turner.turn(at)
            page, at = await self._page(request, at)
            turner.saw(page)
            yield page

    async def _page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor | None]:
        path, params = _question(request, at)
        answer = await self._service.get(path, at.into(params, "cursor"), _Answer)
        # DELAYED is the free plan's way of saying OK.
        if answer.value.status not in {"OK", "DELAYED"}:
            raise DataError(
                "provider_refused",
                f"massive answered with the status {answer.value.status!r:.40}",
                "check the symbols, the interval and the range",
            )
        rows = answer.value.results or []
        bars: list[RawBar] = []
        actions: list[RawAction] = []
        refused: list[Refused] = []
        for row in rows:
            one = _row(request, at, row)
            if isinstance(one, RawBar):
                bars.append(one)
            elif isinstance(one, RawAction):
                actions.append(one)
            elif one is not None:
                refused.append(one)
        after = at.after(_token(answer.value.next_url))
        if after is None and at.part != PARTS[-1]:
            after = at.next_part(PARTS[PARTS.index(at.part) + 1])
        elif after is None:
            after = at.next_symbol(PARTS[0], request.symbols)
        return Page(bars, after and after.text, answer.digest, actions, refused), after


def _row(request: HistoryRequest, at: Cursor, row: msgspec.Raw) -> RawBar | RawAction | Refused | None:
    if at.part == "splits":
        return checked_action(request, row, _Split, lambda one: ("split", _ratio(one)))
    if at.part == "dividends":
        return checked_action(request, row, _Dividend, lambda one: ("dividend", _cash(one)))
    return raw_bar(at.symbol, row, ("t", "o", "h", "l", "c", "v"))


def _question(request: HistoryRequest, at: Cursor) -> tuple[str, dict[str, str]]:
    """Returns path and parameters of a part; the page token is added by the caller."""
    if at.part == "bars":
        count, unit = _range(request.interval)
        first = to_epoch_us(request.start) // 1000
        last = to_epoch_us(request.end - timedelta(microseconds=1)) // 1000  # theirs is inclusive
        path = f"/v2/aggs/ticker/{quote(at.symbol, safe='')}/range/{count}/{unit}/{first}/{last}"
        return path, {"adjusted": "false", "sort": "asc", "limit": str(BASES_MAX)}
    day = "execution_date" if at.part == "splits" else "ex_dividend_date"
    return f"/v3/reference/{at.part}", {
        "ticker": at.symbol,
        f"{day}.gte": str(request.start.date()),
        f"{day}.lte": str(request.end.date()),
        "sort": day,
        "order": "asc",
        "limit": str(ACTIONS_MAX),
    }


def _token(next_url: str | None) -> str | None:
    """Returns the page token of a `next_url`."""
    if not next_url:
        return None
    try:
        found = parse_qs(urlsplit(next_url).query).get("cursor")
    except ValueError:
        found = None
    if not found:
        raise DataError(
            "provider_answer_malformed",
            f"massive sent a next_url without a cursor ({next_url!r:.80})",
            "try again later; what was fetched so far is kept",
        )
    return found[0]


def _ratio(split: _Split) -> float:
    if not split.split_from > 0:
        raise ValueError("split_from is not above 0")
    return split.split_to / split.split_from


def _cash(dividend: _Dividend) -> float:
    if dividend.currency not in {None, "", "USD"}:
        raise ValueError("a dividend in another currency than USD")
    return dividend.cash_amount


def _range(interval: str) -> tuple[int, str]:
    """Returns multiplier and timespan."""
    interval_duration(interval)
    count, unit = int(interval[:-1]), interval[-1]
    if unit in "dw" and count != 1:
        raise unsupported_interval("Massive", interval, INTERVALS)
    return count, _UNITS[unit]
