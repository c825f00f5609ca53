"""Strategies: the code that was saved, each version under the digest of its source, and what came of it."""

from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.errors import StrategyError
from neural_trader_governance.terms.clocks import format_time
from neural_trader_server.console.backtests import LISTED_MAX, row_of
from neural_trader_server.console.guard import answer

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.strategies.outline import Outline
    from neural_trader_tools.strategies.registry import SavedStrategy

SAVED_MAX = 500


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the strategies."""

    def runs() -> list[dict[str, Any]]:
        backtests = services.backtests
        found = [backtests.find(run_id) for run_id in backtests.newest_ids(LISTED_MAX)]
        return [row_of(each, {}) for each in found if each is not None]

    def listed() -> dict[str, Any]:
        of: dict[str, list[dict[str, Any]]] = {}
        for row in runs():
            of.setdefault(str(row["strategy_id"]), []).append(row)
        saved = services.registry.list(limit=SAVED_MAX)
        return {
            "limit": SAVED_MAX,
            "runs_limit": LISTED_MAX,
            "strategies": [
                _row(each) | {"runs": len(of.get(each.strategy_id, ())), "newest": _newest(of, each)}
                for each in saved
            ],
        }

    def told(strategy_id: str) -> dict[str, Any]:
        from neural_trader_tools.strategies.outline import read_outline

        strategy = services.registry.get(strategy_id)
        versions = [each for each in services.registry.list(limit=SAVED_MAX) if each.name == strategy.name]
        outline: dict[str, Any]
        try:
            outline = _outlined(read_outline(strategy.source))
        except StrategyError as error:
            outline = {"kind": "unreadable", "parameters": [], "suspicions": [], "problem": error.what}
        return {
            "strategy": _row(strategy) | {"source": strategy.source},
            "outline": outline,
            "look_ahead": services.backtests.look_ahead(strategy.source),
            "versions": [_row(each) for each in versions],
            "runs": [row for row in runs() if row["strategy_id"] == strategy.strategy_id],
            "runs_limit": LISTED_MAX,
        }

    async def every(_: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(listed))

    async def one(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(told, request.path_params["strategy_id"]))

    return [
        Route("/strategies", every, methods=["GET"]),
        Route("/strategies/{strategy_id}", one, methods=["GET"]),
    ]


def _row(strategy: "SavedStrategy") -> dict[str, Any]:
    return {
        "strategy_id": strategy.strategy_id,
        "name": strategy.name,
        "version": strategy.version,
        "description": strategy.description,
        "created_at": format_time(strategy.created_time),
        "lines": strategy.source.count("\n") + 1,
    }


def _newest(of: dict[str, list[dict[str, Any]]], strategy: "SavedStrategy") -> dict[str, Any] | None:
    """Returns the newest completed backtest of a strategy."""
    completed = (row for row in of.get(strategy.strategy_id, ()) if row["state"] == "completed")
    return next((row for row in completed if row["kind"] == "backtest"), None)


def _outlined(outline: "Outline") -> dict[str, Any]:
    kinds = {
        "a compiled rule, or on_bar": outline.rule,
        "signals(bars)": outline.signals,
        "weights(bars)": outline.weights,
        "a class with on_bars": outline.has_on_bars,
        "a class with on_bar": outline.has_classes,
    }
    kind = next((name for name, found in kinds.items() if found), "unknown")
    names = sorted(outline.parameters or ())
    return {
        "kind": kind,
        "parameters": [
            {"name": name, "kind": outline.kinds.get(name), "default": outline.defaults.get(name)}
            for name in names
        ],
        "suspicions": [{"line": each.line, "why": each.why} for each in outline.suspicions],
        "problem": None,
    }
