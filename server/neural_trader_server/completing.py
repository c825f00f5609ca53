"""Completion: words that a client offers while a person types an address or a prompt's argument."""

from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from mcp.types import Completion, CompletionArgument, CompletionContext, PromptReference
from mcp.types import ResourceTemplateReference as TemplateReference

from neural_trader_server.calling import current_reach
from neural_trader_server.resources import tool_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.endpoint import Endpoint

COUNT_MAX: Final = 100
"""As the protocol bounds it."""

_TOOLSETS: Final = {
    "symbol": "market",
    "interval": "market",
    "run_id": "backtest",
    "client_order_id": "portfolio",
}
"""Who may not ask these for the words learns none of them by typing."""


def offer_completion(endpoint: "Endpoint", services: "Services") -> None:
    """Adds the completion of symbols, intervals, runs and orders to a server."""

    async def complete(
        ref: PromptReference | TemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        del ref  # an argument means the same wherever it stands
        given = (context.arguments if context is not None else None) or {}
        toolset = _TOOLSETS.get(argument.name)
        if toolset not in endpoint.gate.toolsets or not current_reach().has(toolset):
            return Completion(values=[], total=0, has_more=False)
        words = await _words(services, argument.name, argument.value, given)
        found = [word for word in words if word.lower().startswith(argument.value.lower())]
        return Completion(values=found[:COUNT_MAX], total=len(found), has_more=len(found) > COUNT_MAX)

    endpoint.completion()(complete)


async def _words(services: "Services", name: str, begun: str, given: dict[str, str]) -> list[str]:
    if name == "symbol":
        return [str(one["symbol"]) for one in await _instruments(services, begun)]
    if name == "interval":
        symbol = given.get("symbol", "")
        known = [one for one in await _instruments(services, symbol) if one["symbol"] == symbol]
        return [*known[0].get("intervals", []), *known[0].get("derived", [])] if known else ["1d"]
    if name == "run_id":
        return await anyio.to_thread.run_sync(services.backtests.newest_ids, COUNT_MAX)
    if name == "client_order_id":
        facts, _ = await tool_of(services, "orders_list").answer(limit=COUNT_MAX)
        return [str(order["client_order_id"]) for order in facts["orders"]]
    return []


async def _instruments(services: "Services", begun: str) -> list[dict[str, Any]]:
    facts, _ = await tool_of(services, "market_search").answer(query=begun, limit=COUNT_MAX)
    found: list[dict[str, Any]] = facts["instruments"]
    return found
