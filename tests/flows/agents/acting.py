"""An agent that is scripted, and what it met: it calls tools, follows what errors say, and keeps count."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mcp import Client
from mcp.types import TextContent
from tests.flows.agents.advice import Arguments, Ask, Call, Stop, read
from tests.flows.agents.places import at, name, put

STEPS_MAX = 8
RULES = """def signals(bars, fast: int = 20, slow: int = 100):
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(float).fill_null(0.0)
"""
AT_HAND: dict[str, Any] = {
    "query": "apple",
    "symbol": "AAPL",
    "symbols": ["AAPL"],
    "features": ["rsi(14)"],
    "quantity": "1",
    "side": "buy",
    "reason": "the average is crossed",
    "limit_price": "430",
    "source": RULES,
    "name": "cross",
    "kind": "note",
    "text": "a cross of averages",
    "grid": {"fast": "5:20:5"},
    "sql": "SELECT * FROM artifact",
}
"""What any agent knows of its own task; used only where an error says that something is missing."""
KNOWS: Mapping[str, Arguments] = {
    "orders_preview": {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "as the error said"},
    "backtest_start": {"source": RULES, "symbols": ["AAPL"], "commission_bps": 5},
    "strategy_save": {"name": "cross", "source": RULES},
    "market_get_bars": {"symbol": "AAPL"},
    "market_search": {"query": ""},
    "features_search": {"query": ""},
    "strategy_get_api": {"topic": "signals"},
}
"""How this agent calls a tool to which an error sends it."""


@dataclass
class Ending:
    """How one mistake ended: `recovered`, `stopped` or `stuck`, and each error on the way."""

    ending: str
    errors: list[str] = field(default_factory=list[str])
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    said: str = ""


@dataclass
class Agent:
    """Calls tools over a client and does what errors say, by `advice` alone."""

    client: Client
    tools: frozenset[str]
    largest_bytes: int = 0
    """Of the answers, in JSON."""

    @classmethod
    async def at(cls, client: Client) -> "Agent":
        return cls(client, frozenset(tool.name for tool in (await client.list_tools()).tools))

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Calls a tool that must answer."""
        ending = await self.once(Call(tool, arguments))
        assert not isinstance(ending, str), ending
        return ending

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        """Calls a tool that must refuse; returns the error."""
        answer = await self.once(Call(tool, arguments))
        assert isinstance(answer, str), answer
        return answer

    async def once(self, call: Call) -> dict[str, Any] | str:
        """Returns a result, or the error's text."""
        result = await self.client.call_tool(call.tool, call.arguments)
        if result.is_error:
            (content,) = result.content
            assert isinstance(content, TextContent)
            return content.text
        assert result.structured_content is not None
        size = len(json.dumps(result.structured_content, separators=(",", ":"), ensure_ascii=False).encode())
        self.largest_bytes = max(self.largest_bytes, size)
        return cast("dict[str, Any]", result.structured_content)

    async def follow(self, call: Call) -> Ending:
        """Makes a call and follows each error's advice until it works, or there is nothing left to do."""
        ended = Ending("stuck")
        tried: list[Call] = []
        for _ in range(STEPS_MAX):
            tried.append(call)
            answer = await self.once(call)
            if not isinstance(answer, str):
                ended.ending, ended.result = "recovered", answer
                return ended
            ended.errors.append(answer)
            advice = read(answer, call, self.tools, AT_HAND)
            if isinstance(advice, Ask):
                advice = await self._asked(advice, call)
            if isinstance(advice, Stop):
                ended.ending, ended.said = "stopped", advice.why
                return ended
            if advice is None or (advice in tried and advice != call):
                return ended
            call = advice
        return ended

    async def _asked(self, ask: Ask, call: Call) -> Call | Stop | None:
        """Asks the tool that the error named; the answer's fact of that name goes into the call."""
        wrong = at(call.arguments, ask.place)
        if ask.wait:
            await self.once(Call(ask.tool, {"run_id": wrong, "wait_s": 30}))
            return call
        arguments = dict(KNOWS.get(ask.tool, {}))
        if "query" in arguments and isinstance(wrong, str):
            arguments["query"] = wrong[:100]
        answer = await self.once(Call(ask.tool, arguments))
        if isinstance(answer, str):
            return None
        if ask.place == ("source",):
            example = re.search(r"```python\n(.*?)```", str(answer["text"]), re.DOTALL)
            return None if example is None else Call(call.tool, call.arguments | {"source": example[1]})
        wanted = name(ask.place).removesuffix("s")
        found = _first(answer, (wanted, *_OTHER_NAMES.get(wanted, ())))
        if found is None:
            return Stop(f"{ask.tool} knows of none")
        return Call(call.tool, put(call.arguments, ask.place, found))


_OTHER_NAMES = {"audit_seq": ("seq",), "topic": ("name",), "regime_of": ("symbol",), "feature": ("name",)}


def _first(answer: Any, names: tuple[str, ...]) -> Any:
    """Returns the first fact of one of these names, at whatever depth."""
    if isinstance(answer, dict):
        facts = cast("dict[str, Any]", answer)
        for name in names:
            if facts.get(name) is not None and not isinstance(facts[name], dict | list):
                return facts[name]
        inner: list[Any] = list(facts.values())
    else:
        inner = cast("list[Any]", answer) if isinstance(answer, list) else []
    return next((found for each in inner if (found := _first(each, names)) is not None), None)


def code(error: str) -> str:
    """Returns an error's code."""
    return error.partition(":")[0]
