"""Resources: what a tool tells, at an address of its own, for clients that attach documents to a talk.

bars://AAPL/1d?start=2012-01-01        as market_get_bars says it
backtest://RUN_ID/report               as backtest_get says it
orders://CLIENT_ORDER_ID                as orders_list says it of one order
strategy://api                         how to write a strategy, all topics
policy://active                        the Cedar policy in force, with its schema and digest
audit://checkpoint                     the log's newest signed checkpoint (C2SP signed note)

Each is the tool itself, asked with the address's words: one truth, the same point in time, the same refusals.
The gate bounds, charges and marks its reading as it does a call.
"""

import json
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver.exceptions import ResourceError

from neural_trader_governance.errors import DataError, NeuralTraderError
from neural_trader_governance.redaction import redact
from neural_trader_server.catalogue import CATALOGUE, BoundTool, fill

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.endpoint import Endpoint

_JSON: Final = "application/json"


def offer_resources(endpoint: "Endpoint", services: "Services", toolsets: Collection[str]) -> None:
    """Adds the resources of the toolsets that are served.

    Args:
        endpoint: The server.
        services: What tools work on.
        toolsets: As the gate serves them.
    """
    if "market" in toolsets:
        _offer_bars(endpoint, services)
    if "backtest" in toolsets:
        _offer_reports(endpoint, services)
    if "portfolio" in toolsets:
        _offer_orders(endpoint, services)
    if "strategy" in toolsets:
        _offer_api(endpoint, services)
    if "audit" in toolsets:
        _offer_checkpoint(endpoint, services)
    if "core" in toolsets:
        _offer_policy(endpoint, services)


def tool_of(services: "Services", name: str) -> BoundTool:
    """Returns a tool of the catalogue over these services."""
    spec = next(spec for spec in CATALOGUE if spec.name == name)
    return fill(spec.load(), services.provided())


def _offer_bars(endpoint: "Endpoint", services: "Services") -> None:
    async def bars(symbol: str, interval: str, start: str = "", end: str = "", as_of: str = "") -> str:
        given = {"start": start or None, "end": end or None, "as_of": as_of or None}
        return await _told(services, "market_get_bars", symbol=symbol, interval=interval, **given)

    endpoint.resource(
        "bars://{symbol}/{interval}{?start,end,as_of}",
        title="Price bars",
        description="The newest bars, all of them behind a handle; point-in-time, as market_get_bars.",
        mime_type=_JSON,
    )(bars)


def _offer_reports(endpoint: "Endpoint", services: "Services") -> None:
    async def report(run_id: str) -> str:
        return await _told(services, "backtest_get", run_id=run_id)

    endpoint.resource(
        "backtest://{run_id}/report",
        title="Backtest report",
        description="State, metrics, warnings and handles of a backtest, as backtest_get. Subscribe to hear"
        " of its end.",
        mime_type=_JSON,
    )(report)


def _offer_orders(endpoint: "Endpoint", services: "Services") -> None:
    async def order(client_order_id: str) -> str:
        from neural_trader_tools.orders.list import OrdersResult, to_row

        async def ask() -> str:
            await services.desk.reconcile(services.calling())
            found = to_row(await services.desk.order(client_order_id))
            return redact(OrdersResult(mode=services.broker.mode, orders=[found]).model_dump_json())

        return await _answered(ask)

    endpoint.resource(
        "orders://{client_order_id}",
        title="Order",
        description="State, fills and the venue's words of one order, as orders_list. Subscribe to hear of"
        " changes.",
        mime_type=_JSON,
    )(order)


def _offer_api(endpoint: "Endpoint", services: "Services") -> None:
    async def api() -> str:
        facts, _ = await tool_of(services, "strategy_get_api").answer(topic="all")
        return str(facts["text"])

    endpoint.resource(
        "strategy://api",
        title="Strategy API",
        description="How to write a strategy, every form of it, with examples that run.",
        mime_type="text/markdown",
    )(api)


def _offer_checkpoint(endpoint: "Endpoint", services: "Services") -> None:
    async def checkpoint() -> str:
        from neural_trader_governance.audit.log import read_checkpoint

        def read() -> str:
            with services.store.read() as connection:
                found = read_checkpoint(connection)
            if found is None:
                raise DataError("no_checkpoint", "the log has no checkpoint yet", "make an entry first")
            return found[1]

        return await _read(read)

    endpoint.resource(
        "audit://checkpoint",
        title="Audit checkpoint",
        description="The newest signed checkpoint of the log: keep it, and the past cannot change unseen.",
        mime_type="text/plain",
    )(checkpoint)


def _offer_policy(endpoint: "Endpoint", services: "Services") -> None:
    async def policy() -> str:
        from neural_trader_governance.policy.activation import newest_activation
        from neural_trader_governance.policy.bundles import BundleFolder

        def read() -> str:
            with services.store.read() as connection:
                activation = newest_activation(connection)
            if activation is None:
                raise DataError("no_policy", "no policy is in force", "a person runs `neural-trader init`")
            bundle = BundleFolder(services.home.bundles).read(activation.digest)
            bundle.require(services.issuer)
            told = {"digest": bundle.digest, "policy": bundle.policy, "schema": bundle.cedar_schema}
            return json.dumps(told)

        return await _read(read)

    endpoint.resource(
        "policy://active",
        title="Policy in force",
        description="The signed Cedar policy that judges every order now, with its schema and digest.",
        mime_type=_JSON,
    )(policy)


async def _told(services: "Services", tool: str, **given: Any) -> str:
    async def ask() -> str:
        _, text = await tool_of(services, tool).answer(**given)
        return text

    return await _answered(ask)


async def _read(read: Callable[[], str]) -> str:
    import anyio.to_thread

    async def ask() -> str:
        return redact(await anyio.to_thread.run_sync(read))

    return await _answered(ask)


async def _answered(ask: Callable[[], Awaitable[str]]) -> str:
    """Returns an answer; a refusal keeps its one line, with no secret in it."""
    try:
        return await ask()
    except NeuralTraderError as error:
        raise ResourceError(redact(str(error))) from error
