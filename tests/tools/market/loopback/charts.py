"""Yahoo's charts on this machine, for yfinance: written from what the package, unmodified, asks and reads.

Yahoo documents nothing, so this says how yfinance takes an answer, not that Yahoo gives it.
"""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from tests.tools.market.loopback.server import Loopback

NEW_YORK = ZoneInfo("America/New_York")


def opened(day: date) -> int:
    """When New York's session of a day opens, in seconds since 1970."""
    return int(datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK).timestamp())


class ChartsLoopback(Loopback):
    """The service.

    Attributes:
        rows: By symbol and interval: opens in seconds, each with open, high, low, close and volume.
        splits: By symbol: ex-dates, each with new and old shares.
        dividends: By symbol: ex-dates, each with an amount.
        currency: Of every symbol.
    """

    def __init__(self) -> None:
        super().__init__(
            [
                Route("/", self._cookie),
                Route("/v1/test/getcrumb", self._crumb),
                Route("/v8/finance/chart/{symbol}", self._chart),
            ]
        )

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.rows: dict[tuple[str, str], dict[int, tuple[float, float, float, float, int]]] = {}
        self.splits: dict[str, dict[date, tuple[int, int]]] = {}
        self.dividends: dict[str, dict[date, float]] = {}
        self.currency = "USD"

    async def _cookie(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("", 404)

    async def _crumb(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("crumb")

    async def _chart(self, request: Request) -> JSONResponse:
        symbol, query = request.path_params["symbol"], request.query_params
        interval = query["interval"]
        rows = self.rows.get((symbol, interval))
        if rows is None:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return JSONResponse({"chart": {"result": None, "error": error}}, 404)
        first, last = (
            int(query.get(name, default)) for name, default in (("period1", 0), ("period2", 1 << 40))
        )
        times = [time for time in rows if first <= time < last]
        columns = {
            name: [_narrow(rows[time][place]) if place < 4 else rows[time][4] for time in times]
            for place, name in enumerate(("open", "high", "low", "close", "volume"))
        }
        events: dict[str, Any] = {}
        for name, happened in (("splits", self.splits), ("dividends", self.dividends)):
            inside = {
                day: value for day, value in happened.get(symbol, {}).items() if first <= opened(day) < last
            }
            events[name] = {str(opened(day)): _event(opened(day), value) for day, value in inside.items()}
        result = {
            "meta": {
                "currency": self.currency,
                "symbol": symbol,
                "exchangeName": "NMS",
                "instrumentType": "EQUITY",
                "exchangeTimezoneName": "America/New_York",
                "timezone": "EST",
                "gmtoffset": -18_000,
                "priceHint": 2,
                "dataGranularity": interval,
                "range": "",
                "validRanges": ["1d", "5d", "1mo", "max"],
                "tradingPeriods": _periods(times),
            },
            "timestamp": times,
            "events": {name: each for name, each in events.items() if each},
            "indicators": {"quote": [columns], "adjclose": [{"adjclose": columns["close"]}]},
        }
        return JSONResponse({"chart": {"result": [result], "error": None}})


def _periods(times: list[int]) -> list[list[dict[str, Any]]]:
    days = sorted({datetime.fromtimestamp(time, NEW_YORK).date() for time in times})
    hours = 6.5 * 3600
    return [
        [{"timezone": "EST", "start": opened(day), "end": int(opened(day) + hours), "gmtoffset": -18_000}]
        for day in days
    ]


def _narrow(value: float) -> float:
    """Prices are float32 there, written as the double that they are."""
    return float(np.float32(value))


def _event(time: int, value: tuple[int, int] | float) -> dict[str, Any]:
    if isinstance(value, tuple):
        new, old = value
        return {"date": time, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
    return {"date": time, "amount": value}
