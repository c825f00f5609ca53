"""Two crypto exchanges' trading on this machine, for the package ccxt: Binance's spot API and Kraken's.

Written from the exchanges' documentation and held to what ccxt, unmodified, asks and reads. One book of
orders behind both: nothing is matched, a test says what is filled. Like the exchanges, neither keeps an id
taken after its order has ended, and both refuse what comes too late.
"""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.tools.market.loopback.candles import CandlesLoopback

KEY = "AKIATRADING"
SECRET = "c2VjcmV0IG9mIGEgdGVzdA=="


@dataclass(slots=True)
class Standing:
    """An order at the exchange.

    Attributes:
        trades: Id, quantity, price, fee, what the fee is in.
    """

    id: str
    carried: str
    pair: str
    side: str
    kind: str
    quantity: Decimal
    price: Decimal
    stop: Decimal
    status: str = "open"
    trades: list[tuple[str, Decimal, Decimal, Decimal, str]] = field(
        default_factory=list[tuple[str, Decimal, Decimal, Decimal, str]]
    )

    @property
    def filled(self) -> Decimal:
        """Units."""
        return sum((each[1] for each in self.trades), Decimal(0))


class TradingLoopback(CandlesLoopback):
    """Both exchanges' orders.

    Attributes:
        orders: All that were ever taken.
        made: Parameters of every order that arrived, taken or not.
        deaf: Paths that answer this status, and do nothing.
        hidden_trades: Executions are not listed yet.
        ahead_s: How far the exchange's clock is before this machine's.
        balances: By currency.
    """

    def __init__(self) -> None:
        super().__init__()
        self._app.router.routes += [
            Route("/api/v3/time", self._binance_time),
            Route("/api/v3/order", self._binance_order, methods=["POST", "GET", "DELETE"]),
            Route("/api/v3/openOrders", self._binance_open),
            Route("/api/v3/myTrades", self._binance_trades),
            Route("/api/v3/account", self._binance_account),
            Route("/0/public/Time", self._kraken_time),
            Route("/0/private/{what}", self._kraken_private, methods=["POST"]),
        ]

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.pairs = [("BTC", "USD"), ("ETH", "USD")]
        self.orders: list[Standing] = []
        self.made: list[dict[str, str]] = []
        self.deaf: dict[str, int] = {}
        self.hidden_trades = False
        self.ahead_s = 0.0
        self.balances: dict[str, str] = {"USD": "10000.00", "BTC": "0"}
        self._nonce = 0

    def fill(self, order: Standing, quantity: str, price: str, fee: str = "0", currency: str = "USD") -> None:
        """Executes some of an order."""
        trade_id = f"T{len(self.orders)}-{len(order.trades)}"
        order.trades.append((trade_id, Decimal(quantity), Decimal(price), Decimal(fee), currency))
        if order.filled >= order.quantity:
            order.status = "closed"

    def _now(self) -> float:
        return time.time() + self.ahead_s

    def _take(self, made: dict[str, str], standing: Standing) -> Standing | None:
        self.made.append(made)
        if any(each.carried == standing.carried and each.status == "open" for each in self.orders):
            return None
        self.orders.append(standing)
        return standing

    async def _binance_info(self, _: Request) -> JSONResponse:
        answer = await super()._binance_info(_)
        info = json.loads(bytes(answer.body))
        for symbol in info["symbols"]:
            symbol["orderTypes"] = ["LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"]
            symbol["filters"].append(
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"}
            )
        return JSONResponse(info)

    async def _binance_time(self, _: Request) -> JSONResponse:
        return JSONResponse({"serverTime": int(self._now() * 1000)})

    async def _asked(self, request: Request) -> dict[str, str] | JSONResponse:
        """Returns the parameters of a signed request, or why it is refused."""
        if status := self.deaf.get(f"{request.method} {request.url.path}"):
            return _deaf(status, {"code": -1003, "msg": "on demand"})
        text = (await request.body()).decode() if request.method == "POST" else request.url.query
        signed, _, signature = text.rpartition("&signature=")
        wanted = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if signature != wanted or request.headers.get("x-mbx-apikey") != KEY:
            return JSONResponse({"code": -1022, "msg": "Signature for this request is not valid."}, 400)
        made = dict(pair.split("=", 1) for pair in signed.split("&"))
        now = self._now() if request.method == "POST" else time.time()  # only orders are asked late here
        if now * 1000 > int(made["timestamp"]) + int(made.get("recvWindow", 5000)):
            return JSONResponse(
                {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}, 400
            )
        return made

    async def _binance_order(self, request: Request) -> JSONResponse:
        made = await self._asked(request)
        if isinstance(made, JSONResponse):
            return made
        if request.method == "POST":
            if Decimal(made["quantity"]) % Decimal("0.00001"):
                return JSONResponse({"code": -1013, "msg": "Filter failure: LOT_SIZE"}, 400)
            order = self._take(
                made,
                Standing(
                    str(1000 + len(self.orders)),
                    made["newClientOrderId"],
                    made["symbol"],
                    made["side"].lower(),
                    made["type"],
                    Decimal(made["quantity"]),
                    Decimal(made.get("price", "0")),
                    Decimal(made.get("stopPrice", "0")),
                ),
            )
            if order is None:
                return JSONResponse({"code": -2010, "msg": "Duplicate order sent."}, 400)
            return JSONResponse(_binance(order))
        named = [each for each in self.orders if each.carried == made.get("origClientOrderId")]
        named += [each for each in self.orders if each.id == made.get("orderId")]
        if not named:
            return JSONResponse({"code": -2013, "msg": "Order does not exist."}, 400)
        if request.method == "DELETE":
            if named[-1].status != "open":
                return JSONResponse({"code": -2011, "msg": "Unknown order sent."}, 400)
            named[-1].status = "canceled"
        return JSONResponse(_binance(named[-1]))

    async def _binance_open(self, request: Request) -> JSONResponse:
        made = await self._asked(request)
        if isinstance(made, JSONResponse):
            return made
        return JSONResponse([_binance(each) for each in self.orders if each.status == "open"])

    async def _binance_trades(self, request: Request) -> JSONResponse:
        made = await self._asked(request)
        if isinstance(made, JSONResponse):
            return made
        order = next(each for each in self.orders if each.id == made["orderId"])
        rows = [
            {
                "symbol": order.pair,
                "id": number,
                "orderId": int(order.id),
                "price": str(price),
                "qty": str(quantity),
                "quoteQty": str(price * quantity),
                "commission": str(fee),
                "commissionAsset": currency,
                "time": int(self._now() * 1000),
                "isBuyer": order.side == "buy",
                "isMaker": False,
            }
            for number, (_, quantity, price, fee, currency) in enumerate(order.trades)
        ]
        return JSONResponse([] if self.hidden_trades else rows)

    async def _binance_account(self, request: Request) -> JSONResponse:
        made = await self._asked(request)
        if isinstance(made, JSONResponse):
            return made
        rows = [{"asset": name, "free": total, "locked": "0"} for name, total in self.balances.items()]
        return JSONResponse({"balances": rows, "permissions": ["SPOT"]})

    async def _kraken_time(self, _: Request) -> JSONResponse:
        return JSONResponse({"error": [], "result": {"unixtime": int(self._now()), "rfc1123": ""}})

    async def _kraken_private(self, request: Request) -> JSONResponse:
        what = request.path_params["what"]
        if status := self.deaf.get(f"POST {request.url.path}"):
            return _deaf(status, {"error": ["EAPI:Rate limit exceeded"]})
        form = {name: str(value) for name, value in (await request.form()).items()}
        if int(form["nonce"]) <= self._nonce:
            return JSONResponse({"error": ["EAPI:Invalid nonce"]})
        self._nonce = int(form["nonce"])
        if request.headers.get("api-key") != KEY:
            return JSONResponse({"error": ["EAPI:Invalid key"]})
        return JSONResponse(getattr(self, f"_kraken_{what}")(form))

    def _kraken_AddOrder(self, form: dict[str, str]) -> dict[str, Any]:  # noqa: N802 - Kraken's name
        until = datetime.fromisoformat(form["deadline"])
        if self._now() > until.timestamp():
            return {"error": ["EService:Deadline elapsed"]}
        if form["pair"] not in {base + quote for base, quote in self.pairs}:
            return {"error": ["EQuery:Unknown asset pair"]}
        if Decimal(form["volume"]) * Decimal(form.get("price", "1")) > 1_000_000:
            return {"error": ["EOrder:Insufficient funds"]}
        stops = form["ordertype"].startswith("stop-loss")
        order = self._take(
            form,
            Standing(
                f"OKRAK-{len(self.orders):05d}",
                form["cl_ord_id"],
                form["pair"],
                form["type"],
                form["ordertype"],
                Decimal(form["volume"]),
                Decimal(form.get("price2" if stops else "price", "0")),
                Decimal(form.get("price", "0")) if stops else Decimal(0),
            ),
        )
        if order is None:
            return {"error": ["EOrder:Duplicate client order id"]}
        words = f"{order.side} {order.quantity} {order.pair} @ {order.kind} {order.price}"
        return {"error": [], "result": {"descr": {"order": words}, "txid": [order.id]}}

    def _kraken_OpenOrders(self, form: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        return {"error": [], "result": {"open": self._kraken_orders(form, is_open=True)}}

    def _kraken_ClosedOrders(self, form: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        found = self._kraken_orders(form, is_open=False)
        return {"error": [], "result": {"closed": found, "count": len(found)}}

    def _kraken_orders(self, form: dict[str, str], *, is_open: bool) -> dict[str, Any]:
        wanted = form.get("cl_ord_id")
        return {
            each.id: self._kraken(each, "trades" in form)
            for each in self.orders
            if (each.status == "open") == is_open and wanted in {None, each.carried}
        }

    def _kraken_QueryTrades(self, form: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        rows = {
            name: {
                "ordertxid": order.id,
                "pair": order.pair,
                "time": self._now(),
                "type": order.side,
                "ordertype": order.kind,
                "price": str(price),
                "cost": str(price * quantity),
                "fee": str(fee),
                "vol": str(quantity),
                "margin": "0.0",
                "misc": "",
            }
            for order in self.orders
            for name, quantity, price, fee, _ in order.trades
            if name in form["txid"].split(",")
        }
        return {"error": [], "result": rows}

    def _kraken_CancelOrder(self, form: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        for order in self.orders:
            if order.id == form["txid"] and order.status == "open":
                order.status = "canceled"
                return {"error": [], "result": {"count": 1}}
        return {"error": ["EOrder:Unknown order"]}

    def _kraken_BalanceEx(self, _: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        rows = {name: {"balance": total, "hold_trade": "0"} for name, total in self.balances.items()}
        return {"error": [], "result": rows}

    def _kraken(self, order: Standing, with_trades: bool) -> dict[str, Any]:
        cost = sum((price * quantity for _, quantity, price, _, _ in order.trades), Decimal(0))
        price, second = (order.stop, order.price) if order.stop else (order.price, Decimal(0))
        document: dict[str, Any] = {
            "refid": None,
            "userref": None,
            "cl_ord_id": order.carried,
            "status": order.status,
            "opentm": self._now(),
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": order.pair,
                "type": order.side,
                "ordertype": order.kind,
                "price": str(price),
                "price2": str(second),
                "leverage": "none",
                "order": "",
                "close": "",
            },
            "vol": str(order.quantity),
            "vol_exec": str(order.filled),
            "cost": str(cost),
            "fee": "0.00000",
            "price": str(cost / order.filled if order.filled else Decimal("0.00000")),
            "stopprice": "0.00000",
            "limitprice": "0.00000",
            "misc": "",
            "oflags": "fciq",
        }
        if with_trades and not self.hidden_trades:
            document["trades"] = [each[0] for each in order.trades]
        return document


def _deaf(status: int, document: dict[str, Any]) -> JSONResponse:
    return JSONResponse(document if status < 500 else "a gateway's page", status)


def _binance(order: Standing) -> dict[str, Any]:
    status = {"open": "NEW", "closed": "FILLED", "canceled": "CANCELED"}[order.status]
    cost = sum((price * quantity for _, quantity, price, _, _ in order.trades), Decimal(0))
    return {
        "symbol": order.pair,
        "orderId": int(order.id),
        "orderListId": -1,
        "clientOrderId": order.carried,
        "price": str(order.price),
        "origQty": str(order.quantity),
        "executedQty": str(order.filled),
        "cummulativeQuoteQty": str(cost),
        "status": "PARTIALLY_FILLED" if order.filled and status == "NEW" else status,
        "timeInForce": "GTC",
        "type": order.kind,
        "side": order.side.upper(),
        "stopPrice": str(order.stop),
        "time": int(time.time() * 1000),
        "updateTime": int(time.time() * 1000),
        "isWorking": True,
    }
