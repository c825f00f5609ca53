"""Alpaca's market data API on this machine: stock bars and corporate actions.

Written from Alpaca's documentation and held against the OpenAPI document that the wheel of alpaca-mcp-server
ships (tests/tools/market/providers/test_fidelity.py), and against alpaca-py, which is driven unmodified.
"""

import base64
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.tools.market.loopback.server import Loopback

KEY, SECRET = "PKTESTPKTESTPKTEST", "secret-of-nobody-at-all"
BARS_MAX = 10_000
_TIMEFRAME = re.compile(r"([1-5]?\d(Min|T)|(1?\d|2[0-3])(Hour|H)|1(Day|D|Week|W)|(1|2|3|4|6|12)(Month|M))")
_GROUPS = {
    "forward_split": "forward_splits",
    "reverse_split": "reverse_splits",
    "cash_dividend": "cash_dividends",
}
LISTED = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")


class AlpacaLoopback(Loopback):
    """The service.

    Attributes:
        bars: By symbol and timeframe (`1Day`, `1Min`); what is not there has no bars.
        actions: By type (`forward_split`, …).
        page_max: Bars or actions on one page, for tests of pagination.
        delayed: Answers 403 to what is younger than 15 minutes, as the free plan does.
        now: The service's clock.
    """

    def __init__(self) -> None:
        super().__init__(
            [Route("/v2/stocks/bars", self._bars), Route("/v1/corporate-actions", self._corporate_actions)]
        )

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.bars: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.actions: dict[str, list[dict[str, Any]]] = {}
        self.page_max = BARS_MAX
        self.delayed = False
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    async def _bars(self, request: Request) -> JSONResponse:
        if (refusal := _unauthorized(request)) is not None:
            return refusal
        query = request.query_params
        timeframe = query.get("timeframe", "")
        symbols = query.get("symbols", "").split(",")
        limit = min(int(query.get("limit", 1000)), self.page_max)
        for bad, why in (
            (not _TIMEFRAME.fullmatch(timeframe), f"invalid timeframe: {timeframe}"),
            (query.get("feed", "sip") not in {"sip", "iex", "otc", "boats"}, "invalid feed"),
            (not 1 <= limit <= BARS_MAX, "invalid limit"),
            *((not LISTED.fullmatch(one), f"invalid symbol: {one}") for one in symbols),
        ):
            if bad:
                return JSONResponse({"message": why}, 400)
        start, end = (_moment(query.get(name), self.now) for name in ("start", "end"))
        if self.delayed and end > self.now - timedelta(minutes=15):
            return JSONResponse({"message": "subscription does not permit querying recent SIP data"}, 403)
        found = [
            (symbol, row)
            for symbol in sorted(symbols)
            for row in self.bars.get((symbol, timeframe), [])
            if start <= _moment(row["t"], self.now) <= end
        ]
        first, token = _page(query.get("page_token"), len(found), limit)
        if first is None:
            return JSONResponse({"message": "invalid page token"}, 400)
        shown: dict[str, list[dict[str, Any]]] = {}
        for symbol, row in found[first : first + limit]:
            shown.setdefault(symbol, []).append(row)
        return JSONResponse({"bars": shown, "next_page_token": token})

    async def _corporate_actions(self, request: Request) -> JSONResponse:
        if (refusal := _unauthorized(request)) is not None:
            return refusal
        query = request.query_params
        symbols = query.get("symbols", "").split(",")
        limit = min(int(query.get("limit", 100)), self.page_max)
        types = query.get("types", ",".join(_GROUPS)).split(",")
        today = self.now.date().isoformat()
        try:
            start, end = (date.fromisoformat(query.get(name, today)) for name in ("start", "end"))
        except ValueError:
            return JSONResponse({"message": "invalid start or end"}, 400)
        found = [
            (_GROUPS[kind], row)
            for kind in types
            for row in self.actions.get(kind, [])
            if row["symbol"] in symbols and start <= date.fromisoformat(row["process_date"]) <= end
        ]
        first, token = _page(query.get("page_token"), len(found), limit)
        if first is None:
            return JSONResponse({"message": "invalid page token"}, 400)
        shown: dict[str, list[dict[str, Any]]] = {}
        for group, row in found[first : first + limit]:
            shown.setdefault(group, []).append(row)
        return JSONResponse({"corporate_actions": shown, "next_page_token": token})


def bar(t: str, close: float, volume: int = 1000) -> dict[str, Any]:
    """One bar as Alpaca writes it."""
    return {
        "t": t,
        "o": close,
        "h": round(close * 1.01, 4),
        "l": round(close * 0.99, 4),
        "c": close,
        "v": volume,
        "n": 10,
        "vw": close,
    }


def daily(first_day: date, closes: list[float]) -> list[dict[str, Any]]:
    """Daily bars of the weekdays from a winter's day on, stamped at midnight in New York."""
    rows: list[dict[str, Any]] = []
    day = first_day
    for close in closes:
        while day.weekday() > 4:
            day += timedelta(days=1)
        rows.append(bar(f"{day}T05:00:00Z", close))
        day += timedelta(days=1)
    return rows


def minutes(first: datetime, closes: list[float]) -> list[dict[str, Any]]:
    """Bars of consecutive minutes."""
    return [
        bar((first + timedelta(minutes=place)).strftime("%Y-%m-%dT%H:%M:%SZ"), close)
        for place, close in enumerate(closes)
    ]


def split(symbol: str, ex_date: str, new_rate: float, old_rate: float = 1.0) -> dict[str, Any]:
    """A forward split."""
    return {
        "id": f"00000000-0000-4000-8000-{ex_date.replace('-', ''):0>12}",
        "symbol": symbol,
        "cusip": "037833100",
        "new_rate": new_rate,
        "old_rate": old_rate,
        "process_date": ex_date,
        "ex_date": ex_date,
        "record_date": ex_date,
        "payable_date": ex_date,
    }


def dividend(
    symbol: str, ex_date: str, rate: float, number: int = 1, *, special: bool = False
) -> dict[str, Any]:
    """A cash dividend, processed three weeks later."""
    paid = str(date.fromisoformat(ex_date) + timedelta(days=21))
    return {
        "id": f"00000000-0000-4000-9000-{number:012d}",
        "symbol": symbol,
        "cusip": "037833100",
        "rate": rate,
        "special": special,
        "foreign": False,
        "process_date": paid,
        "ex_date": ex_date,
        "payable_date": paid,
    }


def _unauthorized(request: Request) -> JSONResponse | None:
    given = (request.headers.get("apca-api-key-id"), request.headers.get("apca-api-secret-key"))
    return None if given == (KEY, SECRET) else JSONResponse({"message": f"key {given[0]} is not valid"}, 401)


def _moment(text: str | None, now: datetime) -> datetime:
    if text is None:
        return now
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _page(token: str | None, count: int, limit: int) -> tuple[int | None, str | None]:
    """Returns where a page begins (None: the token is none) and the next page's token."""
    first = 0
    if token:
        try:
            first = int(base64.b64decode(token, validate=True))
        except ValueError:
            return None, None
    after = first + limit
    return first, base64.b64encode(str(after).encode()).decode() if after < count else None
