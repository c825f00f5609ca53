"""Alpaca's market data over REST: bars of US stocks and ETFs, and their splits and cash dividends.

Bars come raw (`adjustment=raw`) from `/v2/stocks/bars`, corporate actions from `/v1/corporate-actions`.
Alpaca follows renamed companies by itself: asked for META it answers with what traded as FB too.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

import msgspec

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.pages import Cursor, PageTurner, checked_action, raw_bar, text_of
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
from neural_trader_tools.market.providers.settings import AlpacaSettings

NAME = "alpaca"
KEY_ADVICE = (
    "put the key into APCA_API_KEY_ID and APCA_API_SECRET_KEY, or run: keyring set neural-trader"
    " alpaca-key-id, and: keyring set neural-trader alpaca-secret-key"
)
BARS_MAX = 10_000
ACTIONS_MAX = 1_000
INTERVALS = "1m to 59m, 1h to 23h, 1d, 1w"
_STOCK = re.compile(r"[A-Z][A-Z0-9]{0,9}(\.[A-Z]{1,3})?")
_UNITS = {"m": ("Min", 59), "h": ("Hour", 23), "d": ("Day", 1), "w": ("Week", 1)}


class _BarsAnswer(msgspec.Struct):
    bars: dict[str, list[msgspec.Raw] | None]
    next_page_token: str | None = None


class _Split(msgspec.Struct):
    symbol: str
    ex_date: str
    new_rate: float
    old_rate: float
    id: str = ""


class _Dividend(msgspec.Struct):
    symbol: str
    ex_date: str
    rate: float
    currency: str | None = None
    id: str = ""


class _Actions(msgspec.Struct):
    forward_splits: list[msgspec.Raw] = []
    reverse_splits: list[msgspec.Raw] = []
    cash_dividends: list[msgspec.Raw] = []


class _ActionsAnswer(msgspec.Struct):
    corporate_actions: _Actions
    next_page_token: str | None = None


class Alpaca:
    """Implements `port.HistoryProvider`.

    Args:
        settings: Address, key and feed.
        breaker: Of this provider.
        budget: Of this provider.
        on_change: See `RestService`.
    """

    name = NAME
    capabilities = Capabilities(intervals=INTERVALS, has_actions=True, asset_classes=("equity", "etf"))

    def __init__(
        self,
        settings: AlpacaSettings,
        *,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        key, secret = (
            each.get_secret_value() if each else "" for each in (settings.key_id, settings.secret_key)
        )
        self._has_key = bool(key and secret)
        self._service = RestService(
            NAME,
            settings,
            headers={"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret} if self._has_key else {},
            secrets=tuple(each for each in (key, secret) if each),
            key_advice=KEY_ADVICE,
            breaker=breaker,
            budget=budget,
            on_change=on_change,
        )

    @property
    def dataset_id(self) -> str:
        """Of the archive: the feeds differ, so each is a data set of its own."""
        return f"alpaca-{self._settings.feed}"

    @property
    def source(self) -> str:
        """The service, the feed, the address."""
        return f"Alpaca market data, feed {self._settings.feed}, from {self._settings.url}"[:400]

    @property
    def licence(self) -> str:
        """The terms."""
        return "Alpaca's terms and the exchanges' of your subscription: for your own use, not to be passed on"

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._service.aclose()

    def check(self, request: HistoryRequest) -> None:
        """See `port.HistoryProvider.check`."""
        if not self._has_key:
            raise ConfigurationError(
                "provider_key_missing", f"there is no API key for {self._settings.url}", KEY_ADVICE
            )
        _timeframe(request.interval)
        for symbol in request.symbols:
            if not _STOCK.fullmatch(symbol):
                raise unsupported_symbol("Alpaca", symbol)

    async def history(self, request: HistoryRequest, cursor: str | None = None) -> AsyncGenerator[Page]:
        """See `port.HistoryProvider.history`; one answer holds at most 10,000 bars."""
        self.check(request)
        at = Cursor.read(cursor, ("actions", "bars"), request.symbols)
        turner = PageTurner(NAME)
        while at is not None:
            turner.turn(at)
            page, at = await (
                self._actions_page(request, at) if at.part == "actions" else self._bars_page(request, at)
            )
            turner.saw(page)
            yield page

    async def _bars_page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor | None]:
        params = {
            "symbols": ",".join(request.symbols),
            "timeframe": _timeframe(request.interval),
            "start": format_time(request.start),
            "end": format_time(request.end - timedelta(microseconds=1)),  # theirs is inclusive
            "limit": str(BARS_MAX),
            "adjustment": "raw",
            "feed": self._settings.feed,
            "sort": "asc",
        }
        answer = await self._service.get("/v2/stocks/bars", at.into(params, "page_token"), _BarsAnswer)
        bars: list[RawBar] = []
        refused: list[Refused] = []
        for symbol, rows in answer.value.bars.items():
            for row in rows or ():
                if symbol not in request.symbols:
                    refused.append(Refused(symbol[:40], "a symbol that was not asked for", text_of(row)))
                elif isinstance(read := raw_bar(symbol, row, ("t", "o", "h", "l", "c", "v")), RawBar):
                    bars.append(read)
                else:
                    refused.append(read)
        after = at.after(answer.value.next_page_token)
        return Page(bars, after and after.text, answer.digest, refused=refused), after

    async def _actions_page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor]:
        params = {
            "symbols": ",".join(request.symbols),
            "types": "forward_split,reverse_split,cash_dividend",
            # They are listed by the day of processing, which for a dividend is the day of payment.
            "start": str(request.start.date()),
            "end": str((request.end + timedelta(days=120)).date()),
            "limit": str(ACTIONS_MAX),
            "sort": "asc",
        }
        answer = await self._service.get(
            "/v1/corporate-actions", at.into(params, "page_token"), _ActionsAnswer
        )
        found = answer.value.corporate_actions
        splits = (*found.forward_splits, *found.reverse_splits)
        read = [
            *(checked_action(request, row, _Split, lambda one: ("split", _ratio(one))) for row in splits),
            *(
                checked_action(request, row, _Dividend, lambda one: ("dividend", _cash(one)))
                for row in found.cash_dividends
            ),
        ]
        after = at.after(answer.value.next_page_token) or at.next_part("bars")
        return Page(
            [],
            after.text,
            answer.digest,
            actions=[one for one in read if isinstance(one, RawAction)],
            refused=[one for one in read if isinstance(one, Refused)],
        ), after


def _ratio(split: _Split) -> float:
    if not split.old_rate > 0:
        raise ValueError("old_rate is not above 0")
    return split.new_rate / split.old_rate


def _cash(dividend: _Dividend) -> float:
    if dividend.currency not in {None, "", "USD"}:
        raise ValueError("a dividend in another currency than USD")
    return dividend.rate


def _timeframe(interval: str) -> str:
    """Returns Alpaca's word for an interval."""
    interval_duration(interval)
    count, (unit, most) = int(interval[:-1]), _UNITS.get(interval[-1], ("", 0))
    if count > most:
        raise unsupported_interval("Alpaca", interval, INTERVALS)
    return f"{count}{unit}"
