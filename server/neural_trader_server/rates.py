"""Rates: how often one caller may ask over HTTP, so that none can take the desk from the others.

A bucket of `burst` requests that fills by `per_s` each second, kept as one number: the time at which it will
be full again (GCRA, the leaky bucket as a meter of ITU-T I.371). The numbers lie in memory that worker
processes share after a fork, so that a caller has one bucket however many workers there are.

What stops things (`trading_halt`, `orders_cancel`) has a bucket of its own, which nothing else empties.
"""

import fcntl
import hashlib
import math
import mmap
import struct
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

import orjson
import structlog
from starlette.responses import JSONResponse

from neural_trader_server.bounds import replay
from neural_trader_server.calling import SCOPE_KEY

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from neural_trader_governance.identity import Caller

STOPPING = frozenset({"trading_halt", "orders_cancel"})
"""The tools that stop something: an agent that asked too much can still end what it began."""

STOPS_PER_S, STOPS_BURST = 5.0, 100
RATE_LIMITED = -32029
"""Of JSON-RPC's range for servers; HTTP says 429 beside it."""

_SLOTS, _PROBES = 4096, 8
_SLOT = struct.Struct("<Qd")  # whose, and when the bucket will be full again
_TELL_EVERY_S = 10.0

log = structlog.get_logger(__name__)


class Rates:
    """Buckets by name, in memory that processes forked from this one share.

    Args:
        per_s: Requests a second in the long run; 0 is no limit.
        burst: Requests at once.
        now: Seconds of a clock that all these processes have in common.

    Attributes:
        close: Gives the memory back; so does the end of this object.
    """

    def __init__(self, per_s: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / per_s if per_s > 0 else 0.0
        self._burst_s = burst * self._interval_s
        self._now = now
        self._file = tempfile.TemporaryFile(prefix="neural-trader-rates-")  # noqa: SIM115
        self._file.truncate(_SLOTS * _SLOT.size)
        self._table = mmap.mmap(self._file.fileno(), _SLOTS * _SLOT.size)
        self.close = weakref.finalize(self, _close, self._table, self._file)

    def take(self, name: str) -> float:
        """Takes one request from a bucket; returns 0, or how many seconds to wait where it is empty."""
        if self._interval_s == 0:
            return 0.0
        whose = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") or 1
        now = self._now()
        # A lock of this process on the file: between threads there is nothing to lock, one loop asks.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            at, full = self._find(whose, now)
            full = max(full, now) + self._interval_s
            wait_s = full - self._burst_s - now
            if wait_s > 1e-9:
                return wait_s
            _SLOT.pack_into(self._table, at, whose, full)
            return 0.0
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _find(self, whose: int, now: float) -> tuple[int, float]:
        """Returns where a bucket lies and when it is full; a new one takes the place of one that is full."""
        oldest, oldest_full = 0, math.inf
        for probe in range(_PROBES):
            at = (whose + probe) % _SLOTS * _SLOT.size
            holder, full = _SLOT.unpack_from(self._table, at)
            if holder == whose:
                return at, full
            if full < oldest_full:
                oldest, oldest_full = at, full
        return oldest, now


def _close(table: mmap.mmap, file: IO[bytes]) -> None:
    table.close()
    file.close()


class LimitRates:
    """ASGI middleware behind the door: 429 with `Retry-After` for a caller whose bucket is empty.

    Args:
        app: What is served to those who wait their turn.
        rates: The buckets of requests.
        stops: The buckets of what stops things.
    """

    def __init__(self, app: "ASGIApp", rates: Rates, stops: Rates) -> None:
        self._app = app
        self._rates = rates
        self._stops = stops
        self._told_s = -math.inf

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or says when to come again."""
        if scope["type"] != "http" or scope["path"] in {"/healthz", "/readyz"}:
            await self._app(scope, receive, send)
            return
        name = _name_of(scope)
        wait_s = self._rates.take(name)
        if wait_s == 0:
            await self._app(scope, receive, send)
            return
        # Only now is the body looked at: whoever has a full bucket pays nothing for it. It lies there whole,
        # bounded in size and time before it came here.
        message = await receive()
        request_id, tool = _called(message)
        if tool in STOPPING and (wait_s := self._stops.take(name)) == 0:
            await self._app(scope, replay(message, receive), send)
            return
        if time.monotonic() - self._told_s > _TELL_EVERY_S:  # the log is not theirs to fill
            self._told_s = time.monotonic()
            log.warning("rate_limited", caller=name, tool=(tool or "")[:60], wait_s=round(wait_s, 3))
        seconds = max(1, math.ceil(wait_s))
        error = {
            "code": RATE_LIMITED,
            "message": f"rate_limited: {name} asks more often than this server answers;"
            f" wait {seconds} s, and ask for more at once instead of more often",
        }
        body = {"jsonrpc": "2.0", "id": request_id, "error": error}
        await JSONResponse(body, 429, {"Retry-After": str(seconds)})(scope, receive, send)


def _name_of(scope: "Scope") -> str:
    """Returns whose bucket a request takes from: its caller's, else its address's."""
    caller = cast("Caller | None", scope.get(SCOPE_KEY))
    if caller is not None:
        return f"{caller.agent or '-'} of {caller.principal}"
    client = scope.get("client")
    return f"somebody at {client[0]}" if client else "somebody"


def _called(message: "Message") -> tuple[Any, str | None]:
    """Returns the id of a request and the tool that it calls, where its body says so."""
    try:
        body: Any = orjson.loads(message.get("body", b""))
    except orjson.JSONDecodeError:
        return None, None
    if not isinstance(body, dict):
        return None, None
    request = cast("dict[str, Any]", body)
    params: Any = request.get("params")
    called = request.get("method") == "tools/call" and isinstance(params, dict)
    name: Any = cast("dict[str, Any]", params).get("name") if called else None
    number = request.get("id")
    return number if isinstance(number, str | int) else None, name if isinstance(name, str) else None
