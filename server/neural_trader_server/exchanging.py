"""Exchanging: the paper exchange as a process of its own, over the home's archive, on a loopback address.

Its state is `exchange/exchange.db` in the home and its key `exchange/key.json`, made on the first run.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog

from neural_trader_governance.errors import ConfigurationError, DataError
from neural_trader_server.home import Home

if TYPE_CHECKING:
    from neural_trader_tools.brokers.exchange.rules import Asset
    from neural_trader_tools.brokers.exchange.venue import VenueRules
    from neural_trader_tools.bus.port import Bus
    from neural_trader_tools.market.archive import Archive
    from neural_trader_tools.market.feed.ticks import Tick

LIVE_PENDING_MAX = 10_000
"""Ticks that may wait; beyond, the oldest are passed over: they would be stale."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ExchangePlan:
    """What is to be served.

    Attributes:
        symbols: Of the archive; empty is every tradable one that has the interval.
        start, end: Of the market; None is the oldest moment at which all have a price, and the newest.
        every_s: Seconds from one instant of the market to the next; 0 waits for steps.
        live: The market is what a feed publishes on the bus, at the machine's time.
        recorded: Or what the feed of this name recorded.
        stale_s: A symbol whose newest live price is older is halted.
        cash: Whole dollars of a new account.
        margin: Regulation T margin and short sales.
    """

    symbols: tuple[str, ...]
    interval: str
    start: datetime | None
    end: datetime | None
    every_s: float
    cash: int
    margin: bool
    calendar: str
    seed: int
    per_minute: int
    venue: "VenueRules"
    live: bool = False
    recorded: str = ""
    stale_s: float = 15.0


@dataclass(frozen=True, slots=True)
class ServedAt:
    """Where an exchange is reached, and with which key."""

    url: str
    key_id: str
    secret_key: str
    symbols: tuple[str, ...]
    start: datetime


async def serve_exchange(
    home: Home,
    archive: "Archive",
    plan: ExchangePlan,
    host: str,
    port: int,
    tell: Callable[[ServedAt], object],
    bus: "Bus | None" = None,
) -> None:
    """Serves an exchange until a signal ends it.

    Args:
        home: Where it is kept.
        archive: Its market.
        plan: What is served.
        host: A loopback address.
        port: 0 takes a free one.
        tell: Is told where it is reached, once it is.
        bus: Where a live market is heard.

    Raises:
        ConfigurationError: the address is public or taken; or the kept exchange was made otherwise.
        DataError: a symbol or interval that the archive does not have, or no prices in that range.
    """
    import uvicorn

    from neural_trader_server.listening import bind, end_http_on_signal, require_loopback
    from neural_trader_tools.brokers.exchange.account import Account
    from neural_trader_tools.brokers.exchange.api.keys import ApiKey, KeyRing
    from neural_trader_tools.brokers.exchange.api.live import LiveMarket
    from neural_trader_tools.brokers.exchange.api.player import Player
    from neural_trader_tools.brokers.exchange.api.routes import TradingApi
    from neural_trader_tools.brokers.exchange.api.service import ExchangeService
    from neural_trader_tools.brokers.exchange.exchange import Exchange
    from neural_trader_tools.brokers.exchange.hours import exchange_hours
    from neural_trader_tools.brokers.exchange.keeping import Keeper
    from neural_trader_tools.brokers.exchange.market import (
        archive_instants,
        from_ns,
        last_bars,
        recorded_instants,
        to_ns,
    )

    require_loopback(host)
    folder = home.path / "exchange"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder / ".serving.lock"):
        key_id, secret = _key(folder / "key.json")
        assets = _assets(archive, plan)
        symbols = [asset.symbol for asset in assets]
        ticks = _recorded(archive, plan, symbols)
        if plan.live:
            start = datetime.now(UTC)
        elif ticks:
            start = from_ns(ticks[0].ts_event_ns - 1)
        else:
            start = plan.start or _first_common(archive, symbols, plan.interval)
        keeper = Keeper(folder / "exchange.db", plan.seed)
        hours = exchange_hours(plan.calendar, start.date() - timedelta(days=10), _calendar_end(start))
        account = Account(
            "paper",
            key_id,
            plan.cash * 1_000_000,
            multiplier=2 if plan.margin else 1,
            may_short=plan.margin,
            start_cash=plan.cash * 1_000_000,
        )
        exchange = Exchange(hours, assets, [account], venue=plan.venue, seed=plan.seed, start_ns=to_ns(start))
        if keeper.restore(exchange):
            start = max(start, from_ns(exchange.now_ns))
            log.info("the exchange goes on", time=start.isoformat(), orders=len(exchange.registry.orders))
        service = ExchangeService(exchange, keeper)
        if ticks:
            instants = recorded_instants(each for each in ticks if from_ns(each.ts_event_ns) > start)
        else:
            instants = archive_instants(archive, symbols, plan.interval, start=start, end=plan.end)
        if not plan.live and not ticks:
            for bar in last_bars(archive, symbols, plan.interval, start):
                exchange.registry.book(bar.symbol).see(bar)
        live = None
        if plan.live:
            live = LiveMarket(service, symbols, clock_ns=time.time_ns, stale_s=plan.stale_s)
        player = Player(service, instants)
        ring = KeyRing([ApiKey.of(key_id, secret, "paper")])
        listener = bind(host, port)
        url = f"http://{host}:{int(listener.getsockname()[1])}"
        config = uvicorn.Config(
            TradingApi(service, ring, plan.per_minute, (live or player).routes()).app(),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        http = uvicorn.Server(config)
        http.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]  # see listening
        async with service.running(), anyio.create_task_group() as tasks:
            tasks.start_soon(end_http_on_signal, http)
            if live is not None and bus is not None:
                prices = await bus.subscribe("market.>", policy="drop_oldest", pending_max=LIVE_PENDING_MAX)
                tasks.start_soon(live.follow, prices)
                tasks.start_soon(live.watch)
            elif plan.every_s > 0:
                tasks.start_soon(player.play, plan.every_s)
            tell(ServedAt(url, key_id, secret, tuple(symbols), start))
            await http.serve(sockets=[listener])
            tasks.cancel_scope.cancel()


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                "exchange_serves_already",
                "another process serves this home's exchange",
                "use that one, or end it first; another home (NEURAL_TRADER_HOME) has an exchange of its own",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _key(path: Path) -> tuple[str, str]:
    """Returns the exchange's key pair, made where there is none (mode 0600)."""
    if not path.exists():
        made = {"key_id": f"PK{secrets.token_hex(8).upper()}", "secret_key": secrets.token_urlsafe(30)}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(made) + "\n")
    try:
        kept = json.loads(path.read_text())
        return str(kept["key_id"]), str(kept["secret_key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            "exchange_key_unusable", f"{path} cannot be read ({error})", "delete it: a new key is made"
        ) from error


def _recorded(archive: "Archive", plan: ExchangePlan, symbols: Sequence[str]) -> "list[Tick]":
    """Returns what a feed recorded of the symbols; nothing where none is named.

    Raises:
        DataError: there is nothing.
    """
    if not plan.recorded:
        return []
    from neural_trader_tools.brokers.exchange.market import to_ns
    from neural_trader_tools.market.feed.board import FEEDS
    from neural_trader_tools.market.feed.recorded import recorded_ticks

    first_ns = to_ns(plan.start) if plan.start else 0
    end_ns = to_ns(plan.end) if plan.end else None
    folder = archive.root / FEEDS / plan.recorded
    found = recorded_ticks(folder, first_ns, end_ns, symbols) if folder.is_dir() else []
    if not found:
        raise DataError(
            "nothing_recorded",
            f"the feed {plan.recorded} recorded nothing of {', '.join(symbols)} in that time",
            "see what there is: neural-trader feed status",
        )
    return found


def _assets(archive: "Archive", plan: ExchangePlan) -> "list[Asset]":
    from neural_trader_tools.brokers.exchange.rules import Asset

    wanted = [archive.instrument(symbol) for symbol in plan.symbols] or [
        each for each in archive.instruments() if each.tradable and plan.interval in each.intervals
    ]
    if not wanted:
        raise ConfigurationError(
            "no_market",
            f"the archive has no tradable symbol with {plan.interval} bars",
            "fetch some: neural-trader data fetch sample",
        )
    return [Asset(each.symbol, each.name, is_tradable=each.tradable) for each in wanted]


def _first_common(archive: "Archive", symbols: Sequence[str], interval: str) -> datetime:
    """Returns when every symbol has had its first bar."""
    return max(archive.bars(symbol, interval, adjust="none").item(0, "known_time") for symbol in symbols)


def _calendar_end(start: datetime) -> date:
    return date(min(start.year + 40, 2099), 12, 31)
