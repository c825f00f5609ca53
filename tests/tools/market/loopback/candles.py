"""Two crypto exchanges' candles on this machine, for the package ccxt: Binance's spot API and Kraken's.

Written from the exchanges' documentation and held to what ccxt, unmodified, asks and reads. Binance pages by
`startTime`, at most 1,000 at once; Kraken serves the newest 720 only, after `since`.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.tools.market.loopback.server import Loopback

MILLISECONDS = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
KRAKEN_MAX = 720
Candle = list[Any]
"""Open time in ms, then open, high, low, close and volume as text."""


class CandlesLoopback(Loopback):
    """Both exchanges: their paths differ.

    Attributes:
        candles: By interval, ascending.
        pairs: What is listed, as base and quote.
    """

    def __init__(self) -> None:
        super().__init__(
            [
                Route("/api/v3/exchangeInfo", self._binance_info),
                Route("/api/v3/klines", self._binance_candles),
                Route("/0/public/Assets", self._kraken_assets),
                Route("/0/public/AssetPairs", self._kraken_pairs),
                Route("/0/public/OHLC", self._kraken_candles),
            ]
        )

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.candles: dict[str, list[Candle]] = {}
        self.pairs = [("BTC", "USDT"), ("BTC", "USD"), ("ETH", "EUR")]

    async def _binance_info(self, _: Request) -> JSONResponse:
        symbols = [
            {
                "symbol": base + quote,
                "status": "TRADING",
                "baseAsset": base,
                "quoteAsset": quote,
                "baseAssetPrecision": 8,
                "quotePrecision": 8,
                "quoteAssetPrecision": 8,
                "orderTypes": ["LIMIT", "MARKET"],
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": False,
                "permissions": ["SPOT"],
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "9999", "tickSize": "0.01"}
                ],
            }
            for base, quote in self.pairs
        ]
        return JSONResponse({"timezone": "UTC", "rateLimits": [], "exchangeFilters": [], "symbols": symbols})

    async def _binance_candles(self, request: Request) -> JSONResponse:
        query = request.query_params
        if query.get("symbol") not in {base + quote for base, quote in self.pairs}:
            return JSONResponse({"code": -1121, "msg": "Invalid symbol."}, 400)
        interval, since = query["interval"], int(query.get("startTime", 0))
        found = [one for one in self.candles.get(interval, []) if one[0] >= since]
        limit = min(int(query.get("limit", 500)), 1_000)
        step = MILLISECONDS[interval]
        return JSONResponse([[*one, one[0] + step - 1, "1", 10, "1", "1", "0"] for one in found[:limit]])

    async def _kraken_assets(self, _: Request) -> JSONResponse:
        names = sorted({name for pair in self.pairs for name in pair})
        asset = {"aclass": "currency", "decimals": 8, "display_decimals": 5, "status": "enabled"}
        return JSONResponse({"error": [], "result": {name: {**asset, "altname": name} for name in names}})

    async def _kraken_pairs(self, _: Request) -> JSONResponse:
        pairs = {
            base + quote: {
                "altname": base + quote,
                "wsname": f"{base}/{quote}",
                "aclass_base": "currency",
                "base": base,
                "aclass_quote": "currency",
                "quote": quote,
                "lot": "unit",
                "pair_decimals": 1,
                "lot_decimals": 8,
                "lot_multiplier": 1,
                "leverage_buy": [],
                "leverage_sell": [],
                "fees": [[0, 0.4]],
                "fees_maker": [[0, 0.25]],
                "fee_volume_currency": "ZUSD",
                "margin_call": 80,
                "margin_stop": 40,
                "ordermin": "0.0001",
                "costmin": "0.5",
                "tick_size": "0.1",
                "status": "online",
            }
            for base, quote in self.pairs
        }
        return JSONResponse({"error": [], "result": pairs})

    async def _kraken_candles(self, request: Request) -> JSONResponse:
        query = request.query_params
        interval = {"1": "1m", "60": "1h", "1440": "1d"}[query["interval"]]
        since = int(query.get("since", 0))
        newest = [one for one in self.candles.get(interval, [])[-KRAKEN_MAX:] if one[0] // 1000 > since]
        rows = [[one[0] // 1000, *one[1:5], one[4], one[5], 10] for one in newest]
        last = rows[-2][0] if len(rows) > 1 else since
        return JSONResponse({"error": [], "result": {query["pair"]: rows, "last": last}})
