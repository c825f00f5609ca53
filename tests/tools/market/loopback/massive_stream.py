"""Massive's (formerly Polygon's) stock stream on this machine: JSON statuses, trades, quotes and aggregates.

Written from Massive's documentation and driven by its own client, unmodified.
"""

import json
from typing import Any

from tests.tools.market.loopback.massive import KEY
from tests.tools.market.loopback.sockets import Session, SocketLoopback


class MassiveStreamLoopback(SocketLoopback):
    """The service.

    Attributes:
        connections_max: Of the plan.
        topics: Prefixes that the plan includes.
    """

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.connections_max = 1
        self.topics = {"T", "Q", "A", "AM"}

    async def converse(self, session: Session) -> None:
        """Greets, asks for the key, and does what is asked."""
        await self.say(session, [status("connected", "Connected Successfully")])
        async for frame in session.socket:
            message = json.loads(frame)
            self.said.append(message)
            answers = self._answers(session, message)
            for answer in answers:
                await self.say(session, [answer])
            if answers[0]["status"] in {"auth_failed", "max_connections"}:
                return
            self.happened()

    def publish(self, messages: list[dict[str, Any]], session: Session | None = None) -> None:
        """Sends messages in one frame."""
        chosen = session or self.sessions[-1]
        self.do(lambda: self.say(chosen, messages))

    async def say(self, session: Session, messages: list[dict[str, Any]]) -> None:
        """Sends a frame."""
        await session.socket.send(json.dumps(messages))

    def _answers(self, session: Session, message: dict[str, Any]) -> list[dict[str, Any]]:
        params = message.get("params", "")
        if message.get("action") == "auth":
            if params != KEY:
                return [status("auth_failed", "authentication failed")]
            if sum(each.authenticated for each in self.sessions) >= self.connections_max:
                return [status("max_connections", "Maximum number of websocket connections exceeded.")]
            session.authenticated = True
            return [status("auth_success", "authenticated")]
        if not session.authenticated:
            return [status("auth_required", "authentication required")]
        answers: list[dict[str, Any]] = []
        for topic in params.split(","):
            prefix, _, symbol = topic.partition(".")
            known = session.channels.setdefault(prefix, set())
            if prefix not in self.topics:
                answers.append(status("error", f"not authorized for {topic}"))
            elif message["action"] == "subscribe":
                known.add(symbol)
                answers.append(status("success", f"subscribed to: {topic}"))
            else:
                known.discard(symbol)
                answers.append(status("success", f"unsubscribed to: {topic}"))
        return answers


def status(kind: str, message: str) -> dict[str, Any]:
    """A status message."""
    return {"ev": "status", "status": kind, "message": message}


def trade(symbol: str, price: float, t_ms: int, number: int, size: int = 100) -> dict[str, Any]:
    """A trade as Massive writes it."""
    return {
        "ev": "T", "sym": symbol, "x": 4, "i": str(number), "z": 3, "p": price, "s": size, "c": [0, 12],
        "t": t_ms, "q": number,
    }  # fmt: skip


def quote(symbol: str, bid: float, ask: float, t_ms: int) -> dict[str, Any]:
    """A quote as Massive writes it."""
    return {
        "ev": "Q", "sym": symbol, "bx": 4, "bp": bid, "bs": 3, "ax": 7, "ap": ask, "as": 5, "c": 0,
        "i": [604], "t": t_ms, "z": 3, "q": 50385480,
    }  # fmt: skip


def aggregate(symbol: str, close: float, s_ms: int, kind: str = "AM", volume: int = 1000) -> dict[str, Any]:
    """An aggregate of a minute (`AM`) or a second (`A`) as Massive writes it."""
    span = 60_000 if kind == "AM" else 1_000
    return {
        "ev": kind, "sym": symbol, "v": volume, "av": 950_000, "op": close, "vw": close, "o": close,
        "c": close, "h": round(close * 1.01, 4), "l": round(close * 0.99, 4), "a": close, "z": 60, "s": s_ms,
        "e": s_ms + span,
    }  # fmt: skip
