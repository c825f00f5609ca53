"""Massive's (formerly Polygon's) REST API on this machine: aggregates, splits and dividends.

Written from Massive's documentation and held against its own client, which is driven unmodified. No OpenAPI
document of it is at hand, so what the client does not read is not proven.
"""

import base64
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.tools.market.loopback.server import Loopback

KEY = "massive-key-of-nobody-at-all"


class MassiveLoopback(Loopback):
    """The service.

    Attributes:
        bars: By ticker, multiplier and timespan; `t` in milliseconds.
        splits: Records.
        dividends: Records.
        page_max: Records on one page, for tests of pagination.
        next_host: What `next_url` names instead of this server.
    """

    def __init__(self) -> None:
        super().__init__(
            [
                Route("/v2/aggs/ticker/{ticker}/range/{count:int}/{unit}/{first}/{last}", self._aggs),
                Route("/v3/reference/{what}", self._reference),
            ]
        )

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.bars: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        self.splits: list[dict[str, Any]] = []
        self.dividends: list[dict[str, Any]] = []
        self.page_max = 50_000
        self.next_host = ""

    async def _aggs(self, request: Request) -> JSONResponse:
        if (refusal := _unauthorized(request)) is not None:
            return refusal
        place = request.path_params
        first, last = int(place["first"]), int(place["last"])
        key = (place["ticker"], place["count"], place["unit"])
        found = [row for row in self.bars.get(key, []) if first <= row["t"] <= last]
        document = self._paged(request, found, "cursor")
        adjusted = request.query_params.get("adjusted", "true") == "true"
        return JSONResponse({"ticker": key[0], "adjusted": adjusted, **document})

    async def _reference(self, request: Request) -> JSONResponse:
        if (refusal := _unauthorized(request)) is not None:
            return refusal
        what = request.path_params["what"]
        records = {"splits": self.splits, "dividends": self.dividends}.get(what)
        if records is None:
            return JSONResponse({"status": "NOT_FOUND", "message": "Resource not found"}, 404)
        day = "execution_date" if what == "splits" else "ex_dividend_date"
        query = request.query_params
        found = [
            row
            for row in sorted(records, key=lambda row: str(row.get(day)))
            if query.get("ticker", row.get("ticker")) == row.get("ticker")
            and query.get(f"{day}.gte", "") <= str(row.get(day)) <= query.get(f"{day}.lte", "9")
        ]
        return JSONResponse(self._paged(request, found, "cursor"))

    def _paged(self, request: Request, found: list[dict[str, Any]], name: str) -> dict[str, Any]:
        token = request.query_params.get(name)
        first = int(base64.urlsafe_b64decode(token)) if token else 0
        after = first + self.page_max
        document: dict[str, Any] = {
            "status": "OK",
            "request_id": "0123456789abcdef",
            "resultsCount": len(found[first:after]),
            "queryCount": len(found),
        }
        if found[first:after]:
            document["results"] = found[first:after]
        if after < len(found):
            host = self.next_host or self.url
            token = base64.urlsafe_b64encode(str(after).encode()).decode()
            document["next_url"] = (
                f"{host}{request.url.path}?{urlencode({**request.query_params, name: token})}"
            )
        return document


def bar(t_ms: int, close: float, volume: float = 1000) -> dict[str, Any]:
    """One aggregate as Massive writes it."""
    high, low = round(close * 1.01, 4), round(close * 0.99, 4)
    return {"t": t_ms, "o": close, "h": high, "l": low, "c": close, "v": volume, "vw": close, "n": 10}


def _unauthorized(request: Request) -> JSONResponse | None:
    if request.headers.get("authorization") == f"Bearer {KEY}":
        return None
    return JSONResponse({"status": "ERROR", "request_id": "0", "error": "Unknown API Key"}, 401)
