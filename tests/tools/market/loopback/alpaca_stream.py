"""Alpaca's market data stream on this machine: `/v2/iex` and `/v2/sip`, in JSON and MessagePack.

Written from Alpaca's documentation and driven by alpaca-py, unmodified.
"""

import json
import re
from typing import Any

import msgspec
from msgspec.msgpack import Ext
from tests.tools.market.loopback.alpaca import KEY, SECRET
from tests.tools.market.loopback.sockets import Session, SocketLoopback

from neural_trader_tools.market.feed.ticks import SECOND_NS, parse_ns

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    408: "v2 not enabled",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    500: "internal error",
}
_TIMES = ("t",)


class AlpacaStreamLoopback(SocketLoopback):
    """The service.

    Attributes:
        symbols_max: Of the plan.
        connections_max: Of the plan.
        feeds: That the plan includes.
    """

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.symbols_max = 30
        self.connections_max = 1
        self.feeds = {"iex", "sip"}

    async def converse(self, session: Session) -> None:
        """Greets, asks for the key, and does what is asked."""
        await self.say(session, [{"T": "success", "msg": "connected"}])
        async for frame in session.socket:
            message = self._read(session, frame)
            if message is None:
                await self.say(session, [self.error(400)])
                continue
            self.said.append(message)
            answer = self._answer(session, message)
            await self.say(session, [answer])
            if answer.get("code") in {402, 406}:
                return
            self.happened()

    def publish(self, messages: list[dict[str, Any]], session: Session | None = None) -> None:
        """Sends messages in one frame, each connection in its own encoding."""
        chosen = session or self.sessions[-1]
        self.do(lambda: self.say(chosen, messages))

    async def say(self, session: Session, messages: list[dict[str, Any]]) -> None:
        """Sends a frame."""
        await session.socket.send(encoded(messages, self.packs(session)))

    @staticmethod
    def packs(session: Session) -> bool:
        """Tells whether a client wants MessagePack."""
        return session.headers.get("content-type") == "application/msgpack"

    @staticmethod
    def error(code: int) -> dict[str, Any]:
        """One error message."""
        return {"T": "error", "code": code, "msg": ERRORS[code]}

    def _read(self, session: Session, frame: str | bytes) -> dict[str, Any] | None:
        try:
            found = msgspec.msgpack.decode(frame) if isinstance(frame, bytes) else json.loads(frame)
        except (msgspec.DecodeError, ValueError):
            return None
        return dict[str, Any](found) if isinstance(found, dict) and "action" in found else None  # pyright: ignore[reportUnknownArgumentType]

    def _answer(self, session: Session, message: dict[str, Any]) -> dict[str, Any]:
        if message["action"] == "auth":
            if session.authenticated:
                return self.error(403)
            if (message.get("key"), message.get("secret")) != (KEY, SECRET):
                return self.error(402)
            if sum(each.authenticated for each in self.sessions) >= self.connections_max:
                return self.error(406)
            session.authenticated = True
            return {"T": "success", "msg": "authenticated"}
        if not session.authenticated:
            return self.error(401)
        feed = re.fullmatch(r"/v2/(\w+)", session.path)
        if feed is None or feed[1] not in self.feeds:
            return self.error(409)
        wanted = {name: set(message.get(name) or ()) for name in CHANNELS}
        if len({symbol for each in wanted.values() for symbol in each}) > self.symbols_max:
            return self.error(405)
        for name, symbols in wanted.items():
            known = session.channels.setdefault(name, set())
            known.update(symbols) if message["action"] == "subscribe" else known.difference_update(symbols)
        shown = {name: sorted(symbols) for name, symbols in session.channels.items()}
        both = dict.fromkeys(("corrections", "cancelErrors"), shown["trades"])
        return {"T": "subscription", **shown, **both}


def encoded(messages: list[dict[str, Any]], packs: bool) -> str | bytes:
    """Returns a frame; in MessagePack times are its own timestamps, to the nanosecond."""
    if not packs:
        return json.dumps(messages)
    return msgspec.msgpack.encode(
        [
            {name: timestamp(value) if name in _TIMES else value for name, value in one.items()}
            for one in messages
        ]
    )


def timestamp(text: str) -> Ext:
    """A MessagePack timestamp of 64 bits."""
    seconds, rest = divmod(parse_ns(text), SECOND_NS)
    return Ext(-1, (rest << 34 | seconds).to_bytes(8, "big"))


def trade(symbol: str, price: float, t: str, number: int, size: int = 100) -> dict[str, Any]:
    """A trade as Alpaca writes it."""
    return {
        "T": "t", "S": symbol, "i": number, "x": "V", "p": price, "s": size, "c": ["@", "I"], "z": "C", "t": t
    }  # fmt: skip


def quote(symbol: str, bid: float, ask: float, t: str) -> dict[str, Any]:
    """A quote as Alpaca writes it."""
    return {
        "T": "q", "S": symbol, "bx": "V", "bp": bid, "bs": 3, "ax": "Q", "ap": ask, "as": 5, "c": ["R"],
        "z": "C", "t": t,
    }  # fmt: skip


def minute_bar(symbol: str, close: float, t: str, kind: str = "b", volume: int = 1000) -> dict[str, Any]:
    """A minute bar (`b`) or its revision (`u`) as Alpaca writes it."""
    return {
        "T": kind, "S": symbol, "o": close, "h": round(close * 1.01, 4), "l": round(close * 0.99, 4),
        "c": close, "v": volume, "n": 10, "vw": close, "t": t,
    }  # fmt: skip


def correction(symbol: str, old: int, new: int, price: float, t: str) -> dict[str, Any]:
    """A correction of a trade."""
    return {
        "T": "c", "S": symbol, "x": "V", "oi": old, "op": 1.0, "os": 100, "oc": ["@"], "ci": new, "cp": price,
        "cs": 50, "cc": ["@"], "z": "C", "t": t,
    }  # fmt: skip


def cancel(symbol: str, number: int, t: str) -> dict[str, Any]:
    """A cancellation of a trade."""
    return {"T": "x", "S": symbol, "i": number, "x": "V", "p": 1.0, "s": 100, "a": "C", "z": "C", "t": t}
