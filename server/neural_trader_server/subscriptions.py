"""Subscriptions: a client hears that an order or a run has changed, and reads it again.

2026-07-28: one `subscriptions/listen` is one stream of events; the SDK writes it, we say what happened.
2025-11-25: `resources/subscribe`, and `notifications/resources/updated` on the stream of the session.

Who does not read is not waited for: of many changes of one resource a slow client hears once, a stream whose
client has stopped is ended, and with the connection its subscriptions are forgotten.
"""

from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import anyio
import structlog
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_REQUEST,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)

from neural_trader_server.watching import Watching, is_watchable

if TYPE_CHECKING:
    from mcp.server.connection import Connection

    from neural_trader_server.endpoint import Endpoint

EACH_MAX = 256
"""Resources that one client may watch on one connection, or in one stream."""

STREAMS_MAX = 1024
"""Streams that one process keeps open at once."""

SENT_WITHIN_S = 1.0
"""The longest that one notification may take; a client of the older protocol that is slower is forgotten."""

_KEY = "neural_trader.followed"
_LISTEN = "subscriptions/listen"
log = structlog.get_logger(__name__)


class _Followed:
    """What one connection of the older protocol subscribed to."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.uris: dict[str, AsyncExitStack] = {}

    async def forget(self, uri: str) -> None:
        stack = self.uris.pop(uri, None)
        if stack is not None:
            await stack.aclose()


class Subscriptions:
    """What a server tells its subscribers, of both protocols.

    Args:
        watching: Notices changes.
        schemes: Of the resources that this server has.
    """

    def __init__(self, watching: Watching, schemes: Collection[str]) -> None:
        self.bus = InMemorySubscriptionBus()
        self._streams = ListenHandler(self.bus, max_subscriptions=STREAMS_MAX)
        self._watching = watching
        self._schemes = frozenset(schemes)
        self._followed: list[_Followed] = []
        watching.tells.append(self._tell)

    def offer(self, endpoint: "Endpoint") -> None:
        """Adds what both protocols have for it to a server."""
        endpoint.end_streams = self._streams.close
        server = endpoint._lowlevel_server  # pyright: ignore[reportPrivateUsage]  # the SDK has no other way
        server.add_request_handler(_LISTEN, SubscriptionsListenRequestParams, self._streams)
        server.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    async def listened(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Passes a `subscriptions/listen` on, and watches what it names until its stream ends."""
        uris = addresses_of(ctx)
        _require_few(len(uris))
        async with self._watching.watch(self._served(uris)):
            return await call_next(ctx)

    def _served(self, uris: Collection[str]) -> list[str]:
        return [uri for uri in uris if uri.partition(":")[0] in self._schemes]

    async def _subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        uri, connection = str(params.uri), _connection_of(ctx)
        if ctx.request is not None and connection.session_id is None:
            raise MCPError(
                INVALID_REQUEST,
                "no_session: this server keeps no sessions of this protocol, so nothing could be told later;"
                " use protocol 2026-07-28 (subscriptions/listen), or ask again with the get tool and wait_s",
            )
        if not self._served([uri]) or not is_watchable(uri):
            raise MCPError(
                INVALID_REQUEST,
                "not_watchable: only orders://CLIENT_ORDER_ID and backtest://RUN_ID/report say that they"
                " changed, where their toolset is served; read the others again",
            )
        followed = cast("_Followed | None", connection.state.get(_KEY))
        if followed is None:
            connection.state[_KEY] = followed = _Followed(connection)
            self._followed.append(followed)
            connection.exit_stack.push_async_callback(self._leave, followed)
        if uri not in followed.uris:
            _require_few(len(followed.uris) + 1)
            stack = followed.uris[uri] = AsyncExitStack()
            try:
                await stack.enter_async_context(self._watching.watch([uri]))
            except BaseException:
                del followed.uris[uri]
                raise
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        followed = cast("_Followed | None", _connection_of(ctx).state.get(_KEY))
        if followed is not None:
            await followed.forget(str(params.uri))
        return EmptyResult()

    async def _leave(self, followed: _Followed) -> None:
        if followed in self._followed:
            self._followed.remove(followed)
        for uri in list(followed.uris):
            await followed.forget(uri)

    async def _tell(self, uri: str) -> None:
        """Tells every subscriber that a resource has changed."""
        await self.bus.publish(ResourceUpdated(uri=uri))
        for followed in [each for each in self._followed if uri in each.uris]:
            with anyio.move_on_after(SENT_WITHIN_S) as scope:
                await followed.connection.outbound.notify("notifications/resources/updated", {"uri": uri})
            if scope.cancelled_caught:
                log.warning("subscriber_forgotten", uri=uri)
                await self._leave(followed)


def addresses_of(ctx: ServerRequestContext[Any, Any]) -> list[str]:
    """Returns the resources that a request to hear of changes names; what is no text, the SDK refuses."""
    params = ctx.params or {}
    if ctx.method != _LISTEN:
        return [str(params["uri"])] if isinstance(params.get("uri"), str) else []
    wanted: Any = params.get("notifications")
    known = cast("dict[str, Any]", wanted) if isinstance(wanted, dict) else {}
    named: Any = known.get("resourceSubscriptions")
    return (
        [uri for uri in cast("list[Any]", named) if isinstance(uri, str)] if isinstance(named, list) else []
    )


def _connection_of(ctx: ServerRequestContext[Any, Any]) -> "Connection":
    return ctx.session._connection  # pyright: ignore[reportPrivateUsage]  # it outlives the request


def _require_few(count: int) -> None:
    if count > EACH_MAX:
        raise MCPError(
            INVALID_REQUEST,
            f"too_many_subscriptions: {count}, and {EACH_MAX} are kept; watch what still works",
        )
