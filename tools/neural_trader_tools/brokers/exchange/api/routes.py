"""Routes: Alpaca's trading API over an exchange, as far as stocks go.

What is not served answers 404 and says so. Errors have Alpaca's shape, `{"code", "message"}`.
"""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from neural_trader_governance.errors import StorageError
from neural_trader_tools.brokers.exchange import amounts, rules
from neural_trader_tools.brokers.exchange.api import documents
from neural_trader_tools.brokers.exchange.api.keys import KeyRing
from neural_trader_tools.brokers.exchange.api.service import ExchangeService, RateLimit
from neural_trader_tools.brokers.exchange.api.streams import trade_updates
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.requests import OrderRequest, ReplaceRequest
from neural_trader_tools.brokers.exchange.rules import RefusedError

BODY_MAX = 64 * 1024
_PAGE_MAX = 500
_log = structlog.get_logger("neural_trader.exchange")
_Handler = Callable[[Request, str], Awaitable[Response]]


class TradingApi:
    """The handlers.

    Args:
        service: The exchange.
        keys: Who may use it.
        per_minute: Requests a minute for each key; 0 knows no bound.
        more: Routes beside Alpaca's.
    """

    def __init__(
        self, service: ExchangeService, keys: KeyRing, per_minute: int = 200, more: Sequence[Route] = ()
    ) -> None:
        self.service = service
        self._more = more
        self._exchange = service.exchange
        self._keys = keys
        self._limit = RateLimit(per_minute, time.monotonic)

    def app(self) -> Starlette:
        """Returns the ASGI application; it serves while the service is running."""
        handlers: list[tuple[str, str, _Handler]] = [
            ("GET", "/v2/account", self._account),
            ("GET", "/v2/account/configurations", self._configurations),
            ("GET", "/v2/account/activities", self._activities),
            ("GET", "/v2/account/activities/{kind}", self._activities),
            ("POST", "/v2/orders", self._submit),
            ("GET", "/v2/orders", self._orders),
            ("DELETE", "/v2/orders", self._cancel_all),
            ("GET", "/v2/orders:by_client_order_id", self._order_by_client_id),
            ("GET", "/v2/orders/{order_id}", self._order),
            ("PATCH", "/v2/orders/{order_id}", self._replace),
            ("DELETE", "/v2/orders/{order_id}", self._cancel),
            ("GET", "/v2/positions", self._positions),
            ("DELETE", "/v2/positions", self._close_all),
            ("GET", "/v2/positions/{symbol}", self._position),
            ("DELETE", "/v2/positions/{symbol}", self._close),
            ("GET", "/v2/assets", self._assets),
            ("GET", "/v2/assets/{symbol}", self._asset),
            ("GET", "/v2/clock", self._clock),
            ("GET", "/v2/calendar", self._calendar),
        ]
        routes = [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in handlers]
        stream = trade_updates(self.service, self._keys)
        return Starlette(
            routes=[*routes, *self._more, Route("/healthz", _healthy), WebSocketRoute("/stream", stream)],
            exception_handlers={404: _unknown_route, 405: _unknown_route},
        )

    def _guarded(self, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            key_id = request.headers.get("apca-api-key-id")
            account = self._keys.account(key_id, request.headers.get("apca-api-secret-key"))
            if account is None:
                return _failed(401, 40110000, "request is not authorized")
            allowed, left, reset_s = self._limit.take(key_id or "")
            headers: dict[str, str] = {}
            if self._limit.per_minute:
                headers = {
                    "X-RateLimit-Limit": str(self._limit.per_minute),
                    "X-RateLimit-Remaining": str(left),
                    "X-RateLimit-Reset": str(int(time.time()) + reset_s),
                }
            if not allowed:
                response = _failed(429, 42910000, "too many requests.")
            else:
                response = await _answered(handler, request, account)
            response.headers.update(headers)
            return response

        return answer

    # Account

    async def _account(self, _: Request, account: str) -> Response:
        held = self._exchange.registry.accounts[account]
        return JSONResponse(documents.account_document(self._exchange, held, self.service.opened_ns))

    async def _configurations(self, _: Request, account: str) -> Response:
        held = self._exchange.registry.accounts[account]
        return JSONResponse(
            {
                "dtbp_check": "entry",
                "fractional_trading": True,
                "max_margin_multiplier": str(held.multiplier),
                "no_shorting": not held.may_short,
                "pdt_check": "entry",
                "suspend_trade": held.is_blocked,
                "trade_confirm_email": "none",
                "ptp_no_exception_entry": False,
            }
        )

    async def _activities(self, request: Request, account: str) -> Response:
        asked = request.path_params.get("kind") or request.query_params.get("activity_types", "")
        kinds = {kind.upper() for kind in asked.split(",") if kind}
        size = _whole(request, "page_size", 100, 100)
        newest_first = request.query_params.get("direction", "desc") != "asc"
        found: list[documents.Document] = []
        if not kinds or "FILL" in kinds:
            fills = self.service.keeper.executions(
                account,
                order_id=request.query_params.get("order_id"),
                after=self.service.keeper.number_of(request.query_params.get("page_token", "")),
                limit=size,
                newest_first=newest_first,
            )
            found += [documents.fill_document(self._exchange, each) for each in fills]
        if not kinds or kinds & {"DIV", "SPLIT"}:
            others = self.service.keeper.activities(account, size)
            found += [
                documents.activity_document(self._exchange, each)
                for each in others
                if not kinds or each.kind in kinds
            ]
        found.sort(key=lambda each: str(each["id"]), reverse=newest_first)
        return JSONResponse(found[:size])

    # Orders

    async def _submit(self, request: Request, account: str) -> Response:
        wanted = OrderRequest.model_validate(await _body(request))
        order = await self.service.call(lambda exchange: exchange.submit(account, wanted))
        return JSONResponse(self._nested(order))

    async def _replace(self, request: Request, account: str) -> Response:
        wanted = ReplaceRequest.model_validate(await _body(request))
        order_id = request.path_params["order_id"]
        order = await self.service.call(lambda exchange: exchange.replace(account, order_id, wanted))
        return JSONResponse(self._nested(order))

    async def _cancel(self, request: Request, account: str) -> Response:
        order_id = request.path_params["order_id"]
        await self.service.call(lambda exchange: exchange.cancel(account, order_id))
        return Response(status_code=204)

    async def _cancel_all(self, _: Request, account: str) -> Response:
        def cancel(exchange: Exchange) -> list[documents.Document]:
            answers: list[documents.Document] = []
            for order in exchange.registry.open_orders(account):
                if order.is_open and order.status not in {"pending_cancel", "pending_replace"}:
                    exchange.cancel(account, order.id)
                    answers.append({"id": order.id, "status": 200})
            return answers

        return JSONResponse(await self.service.call(cancel), 207)

    async def _order(self, request: Request, account: str) -> Response:
        order = self._exchange.registry.order(account, request.path_params["order_id"])
        return JSONResponse(self._nested(order, nested=request.query_params.get("nested") != "false"))

    async def _order_by_client_id(self, request: Request, account: str) -> Response:
        client_order_id = request.query_params.get("client_order_id", "")
        order = self._exchange.registry.order_by_client_id(account, client_order_id)
        return JSONResponse(self._nested(order))

    async def _orders(self, request: Request, account: str) -> Response:
        asked = request.query_params
        status, nested = asked.get("status", "open"), asked.get("nested") == "true"
        if status not in {"open", "closed", "all"}:
            raise rules.invalid("status must be open, closed or all")
        symbols = {symbol for symbol in asked.get("symbols", "").split(",") if symbol}
        after, until = (_instant(asked.get(name), name) for name in ("after", "until"))
        registry = self._exchange.registry
        source = registry.open_orders(account) if status == "open" else registry.orders.values()
        found = [
            order
            for order in source
            if order.account == account
            and (status != "closed" or not order.is_open)
            and (not symbols or order.symbol in symbols)
            and (asked.get("side") in {None, order.side})
            and (after is None or order.created_ns > after)
            and (until is None or order.created_ns < until)
            and not (nested and order.parent is not None)
        ]
        found.sort(key=lambda order: order.sequence, reverse=asked.get("direction", "desc") != "asc")
        shown = found[: _whole(request, "limit", 50, _PAGE_MAX)]
        return JSONResponse([self._nested(order, nested=nested) for order in shown])

    def _nested(self, order: VenueOrder, *, nested: bool = True) -> documents.Document:
        legs = [each for each in self._exchange.registry.group(order) if each.parent == order.id]
        return documents.order_document(self._exchange, order, legs=legs if nested and legs else None)

    # Positions

    async def _positions(self, _: Request, account: str) -> Response:
        held = self._exchange.registry.accounts[account]
        shown = [
            documents.position_document(self._exchange, held, symbol, position)
            for symbol, position in sorted(held.positions.items())
            if position.quantity
        ]
        return JSONResponse(shown)

    async def _position(self, request: Request, account: str) -> Response:
        symbol = self._symbol(request)
        held = self._exchange.registry.accounts[account]
        if not held.held(symbol):
            raise rules.not_found("position does not exist")
        return JSONResponse(documents.position_document(self._exchange, held, symbol, held.positions[symbol]))

    async def _close(self, request: Request, account: str) -> Response:
        symbol = self._symbol(request)
        wanted = request.query_params
        order = await self.service.call(
            lambda exchange: _closed(exchange, account, symbol, wanted.get("qty"), wanted.get("percentage"))
        )
        return JSONResponse(self._nested(order))

    async def _close_all(self, request: Request, account: str) -> Response:
        cancels = request.query_params.get("cancel_orders") == "true"

        def close(exchange: Exchange) -> list[documents.Document]:
            if cancels:
                for order in exchange.registry.open_orders(account):
                    if order.is_open:
                        exchange.cancel(account, order.id)
            answers: list[documents.Document] = []
            for symbol, position in sorted(exchange.registry.accounts[account].positions.items()):
                if not position.quantity:
                    continue
                try:
                    body = self._nested(_closed(exchange, account, symbol, None, None))
                    answers.append({"symbol": symbol, "status": 200, "body": body})
                except RefusedError as refused:
                    body = {"code": refused.code, "message": refused.message, "symbol": symbol}
                    answers.append({"symbol": symbol, "status": refused.status, "body": body})
            return answers

        return JSONResponse(await self.service.call(close), 207)

    # The market

    async def _assets(self, request: Request, _: str) -> Response:
        wanted = request.query_params.get("status", "active")
        assets = [] if wanted != "active" else list(self._exchange.registry.assets.values())
        return JSONResponse([documents.asset_document(self._exchange, asset) for asset in assets])

    async def _asset(self, request: Request, _: str) -> Response:
        symbol = self._symbol(request)
        asset = self._exchange.registry.assets.get(symbol)
        if asset is None:
            raise rules.not_found(f"asset not found for {symbol}")
        return JSONResponse(documents.asset_document(self._exchange, asset))

    async def _clock(self, _: Request, __: str) -> Response:
        return JSONResponse(documents.clock_document(self._exchange))

    async def _calendar(self, request: Request, _: str) -> Response:
        today = datetime.fromtimestamp(self._exchange.now_ns // 10**9, UTC).date()
        first = _date(request, "start", today - timedelta(days=30))
        last = _date(request, "end", today + timedelta(days=30))
        hours = self._exchange.hours
        return JSONResponse(
            [
                documents.session_document(session, hours.current_or_next(session.close_ns).date)
                for session in hours.between(first, last)
            ]
        )

    def _symbol(self, request: Request) -> str:
        given: str = request.path_params["symbol"]
        by_id = {documents.asset_id(self._exchange, each): each for each in self._exchange.registry.assets}
        return by_id.get(given, given)


def _closed(
    exchange: Exchange, account: str, symbol: str, quantity: str | None, percentage: str | None
) -> VenueOrder:
    held = exchange.registry.accounts[account].held(symbol)
    if held == 0:
        raise rules.not_found("position does not exist")
    whole = abs(held)
    try:
        if percentage is not None:
            whole = int(whole * Decimal(percentage) / 100)
        elif quantity is not None:
            whole = int(Decimal(quantity) * amounts.SHARE)
    except (InvalidOperation, OverflowError):
        raise rules.invalid("qty and percentage are numbers") from None
    if not 0 < whole <= abs(held):
        raise rules.invalid("give a qty or percentage within the position")
    wanted = {
        "symbol": symbol,
        "qty": amounts.quantity_text(whole),
        "side": "sell" if held > 0 else "buy",
        "type": "market",
        "time_in_force": "day",
    }
    return exchange.submit(account, OrderRequest.model_validate(wanted))


async def _answered(handler: _Handler, request: Request, account: str) -> Response:
    try:
        return await handler(request, account)
    except RefusedError as refused:
        return _failed(refused.status, refused.code, refused.message)
    except ValidationError as error:
        return _failed(422, 42210000, _said(error))
    except StorageError as error:
        _log.error("request not kept", error=str(error))
        return _failed(500, 50010000, "internal server error: it could not be written down")


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


async def _body(request: Request) -> Any:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_MAX:
            raise RefusedError(413, 41310000, f"the request is longer than {BODY_MAX} bytes")
    try:
        # Numbers are read as decimals: what a client wrote is what is judged.
        parsed = json.loads(bytes(body), parse_float=_decimal_text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError(400, 40010000, "request body format is invalid") from None
    if not isinstance(parsed, dict):
        raise RefusedError(400, 40010000, "request body format is invalid")
    return parsed  # pyright: ignore[reportUnknownVariableType] - the model reads it


def _decimal_text(text: str) -> str:
    return text


def _no_constant(text: str) -> str:
    raise ValueError(f"{text} is no number")


def _whole(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise rules.invalid(f"{name} must be from 1 to {most}")
    return int(given)


def _instant(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise rules.invalid(f"{name} must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _date(request: Request, name: str, default: date) -> date:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise rules.invalid(f"{name} must be a date") from None


def _failed(status: int, code: int, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status)


async def _healthy(_: Request) -> Response:
    return JSONResponse({"ok": True})


async def _unknown_route(request: Request, _: Exception) -> Response:
    return _failed(404, 40410000, f"this exchange does not serve {request.method} {request.url.path}")
