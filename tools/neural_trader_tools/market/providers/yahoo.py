"""US stocks and ETFs through the package yfinance, which reads the charts of Yahoo's website.

Yahoo publishes prices and dividends as if every later split had happened, and no raw ones. The archive holds
raw prices, so the splits up to now are asked for first and undone: what lies before one is exact to seven
digits, which is what Yahoo's numbers (float32) carry. Bars after the last split are its numbers as they are.
"""

import atexit
import functools
import hashlib
import math
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, cast
from urllib.parse import urlsplit

import anyio.to_thread
import numpy as np

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.clocks import format_time, parse_time
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.packages import (
    Failure,
    PackageCalls,
    extra,
    failed,
    malformed,
    rate_limited,
    said,
)
from neural_trader_tools.market.providers.pages import Cursor, PageTurner
from neural_trader_tools.market.providers.port import (
    Capabilities,
    HistoryRequest,
    Page,
    RawAction,
    RawBar,
    Refused,
    unsupported_interval,
    unsupported_symbol,
)
from neural_trader_tools.market.providers.settings import YfinanceSettings

NAME = "yfinance"
PARTS = ("actions", "bars")
WINDOWS = {
    "1m": timedelta(days=7),
    "2m": timedelta(days=59),
    "5m": timedelta(days=59),
    "15m": timedelta(days=59),
    "30m": timedelta(days=59),
    "1h": timedelta(days=700),
    "1d": timedelta(days=36_500),
}
"""By interval, how much Yahoo serves at once."""
PRICES = ("Open", "High", "Low", "Close")
FIRST_DAY = date(1962, 1, 2)
"""Yahoo's oldest; a split before a bar does not matter to it."""
_STOCK = re.compile(r"[A-Z]{1,6}(-[A-Z]{1,2})?")
_SEVEN = Context(prec=7)


@dataclass(frozen=True, slots=True)
class Rows:
    """What one call answered.

    Attributes:
        times: Opens, in the exchange's time.
        values: `Open, High, Low, Close, Volume`, float64.
        splits: New shares per old share by ex-date.
        dividends: Cash per share by ex-date, as if every later split had happened.
        currency: Of the prices.
    """

    times: list[datetime]
    values: dict[str, list[float]]
    splits: dict[date, float]
    dividends: dict[date, float]
    currency: str


class Yahoo:
    """Implements `port.HistoryProvider`.

    Args:
        settings: Deadlines, and where.
        breaker: Of this provider.
        budget: Of this provider.
        on_change: See `PackageCalls`.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    name = NAME
    dataset_id = NAME
    licence = "Yahoo's terms: personal use, not to be passed on; yfinance is not affiliated with Yahoo"
    capabilities = Capabilities(", ".join(WINDOWS), has_actions=True, asset_classes=("equity", "etf"))

    def __init__(
        self,
        settings: YfinanceSettings,
        *,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._package: Any = extra("yfinance", NAME)
        self._errors: Any = extra("yfinance.exceptions", NAME)
        self._package.config.debug.hide_exceptions = False
        self._package.set_tz_cache_location(_folder())
        self._session = _session(settings.url)
        self._splits: dict[str, dict[date, float]] = {}
        self._calls = PackageCalls(
            NAME, settings, self._judged, breaker=breaker, budget=budget, on_change=on_change
        )

    @property
    def source(self) -> str:
        """The service, the package, the address."""
        place = f", from {self._settings.url}" if self._settings.url else ""
        version = self._package.__version__
        return f"Yahoo's charts by yfinance {version}; splits undone{place}"[:400]

    async def aclose(self) -> None:
        """Closes the connections."""
        self._session.close()

    def check(self, request: HistoryRequest) -> None:
        """See `port.HistoryProvider.check`."""
        interval_duration(request.interval)
        if request.interval not in WINDOWS:
            raise unsupported_interval(NAME, request.interval, ", ".join(WINDOWS))
        for symbol in request.symbols:
            if not _STOCK.fullmatch(symbol):
                raise unsupported_symbol(NAME, symbol)

    async def history(self, request: HistoryRequest, cursor: str | None = None) -> AsyncGenerator[Page]:
        """See `port.HistoryProvider.history`; one symbol after the other."""
        self.check(request)
        at = Cursor.read(cursor, PARTS, request.symbols)
        turner = PageTurner(NAME)
        while at is not None:
            turner.turn(at)
            page, at = await (
                self._actions_page(request, at) if at.part == "actions" else self._bars_page(request, at)
            )
            turner.saw(page)
            yield page

    async def _actions_page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor | None]:
        rows = await self._rows(at.symbol, request.start - timedelta(days=7), None, "1d")
        if isinstance(rows, Refused):
            after = at.next_symbol(PARTS[0], request.symbols)
            return Page([], after and after.text, _digest(rows), refused=[rows]), after
        self._splits[at.symbol] = rows.splits
        actions = [
            RawAction(at.symbol, "split", day, value, f"{day} split") for day, value in rows.splits.items()
        ]
        actions += [
            RawAction(
                at.symbol, "dividend", day, float(_undone(value, _since(day, rows.splits))), f"{day} dividend"
            )
            for day, value in rows.dividends.items()
        ]
        inside = [one for one in actions if request.start.date() <= one.ex_date <= request.end.date()]
        after = at.next_part("bars")
        return Page([], after.text, _digest(rows), actions=inside), after

    async def _bars_page(self, request: HistoryRequest, at: Cursor) -> tuple[Page, Cursor | None]:
        if at.symbol not in self._splits:  # it goes on in another process
            known = await self._rows(at.symbol, request.start - timedelta(days=7), None, "1d")
            self._splits[at.symbol] = {} if isinstance(known, Refused) else known.splits
        first = parse_time(at.token) if at.token else request.start
        stop = min(first + WINDOWS[request.interval], request.end)
        rows = await self._rows(at.symbol, first, stop, request.interval)
        after = at.after(format_time(stop)) if stop < request.end else None
        after = after or at.next_symbol(PARTS[0], request.symbols)
        if isinstance(rows, Refused):
            return Page([], after and after.text, _digest(rows), refused=[rows]), after
        bars = _bars(at.symbol, rows, request.interval, self._splits[at.symbol], first, stop)
        return Page(bars, after and after.text, _digest(rows)), after

    async def _rows(
        self, symbol: str, start: datetime, end: datetime | None, interval: str
    ) -> Rows | Refused:
        """Asks the package, which answers with a frame or, where Yahoo has nothing, an exception."""

        def ask() -> Rows:
            ticker = self._package.Ticker(symbol, session=self._session)
            frame = ticker.history(
                start=max(start, datetime(FIRST_DAY.year, 1, 2, tzinfo=UTC)),
                end=end,
                interval=interval,
                auto_adjust=False,
                actions=True,
                timeout=self._settings.request_timeout_s,
            )
            return _read(frame, str(ticker.history_metadata.get("currency")))

        async def call() -> Rows | Refused:
            try:
                return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
            except self._errors.YFTickerMissingError as error:
                return Refused(symbol, "Yahoo has no prices there", said(error))

        rows = await self._calls.call(call)
        if isinstance(rows, Rows) and rows.currency != "USD":
            raise DataError(
                "symbol_not_offered",
                f"Yahoo's {symbol} is quoted in {rows.currency!r:.20}, not in USD",
                "fetch US stocks and ETFs here; import others as files",
            )
        return rows

    def _judged(self, error: Exception) -> Failure:
        if isinstance(error, self._errors.YFRateLimitError):
            return rate_limited(NAME, "yfinance_requests_per_minute", error)
        if isinstance(error, OSError):  # curl's own errors are of this family
            return failed(NAME, error)
        return malformed(NAME, error)


@functools.cache
def _folder() -> str:
    """Where the package keeps cookies and time zones: with this process, not among the user's files."""
    folder = tempfile.mkdtemp(prefix="neural-trader-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _session(url: str | None) -> Any:
    """A session as yfinance makes it, which asks another host where the settings name one."""
    requests: Any = extra("curl_cffi.requests", NAME)
    if url is None:
        return requests.Session(impersonate="chrome")

    class Moved(requests.Session):
        def request(self, method: str, place: str | None = None, **words: Any) -> Any:
            wanted = urlsplit(cast("str", words.pop("url", None) or place))
            moved = f"{url}{wanted.path}" + (f"?{wanted.query}" if wanted.query else "")
            return requests.Session.request(self, method, moved, **words)

    return Moved()


def _read(frame: Any, currency: str) -> Rows:
    """Makes plain values of pandas's."""
    times = [moment.to_pydatetime() for moment in frame.index]
    values = {name: [float(each) for each in frame[name]] for name in (*PRICES, "Volume")}
    happened: dict[str, dict[date, float]] = {}
    for name in ("Stock Splits", "Dividends"):
        column: list[float] = [float(each) for each in frame[name]] if name in frame else [0.0] * len(times)
        happened[name] = {
            moment.date(): value
            for moment, value in zip(times, column, strict=True)
            if math.isfinite(value) and value > 0
        }
    return Rows(times, values, happened["Stock Splits"], happened["Dividends"], currency)


def _bars(
    symbol: str, rows: Rows, interval: str, splits: dict[date, float], first: datetime, stop: datetime
) -> list[RawBar]:
    """Raw bars; Yahoo's last row of a running session is the price of this moment, which landing refuses."""
    bars: list[RawBar] = []
    for place, moment in enumerate(rows.times):
        day = moment.date()
        # A session of New York lies within its date, in UTC too.
        opened = moment if interval != "1d" else datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
        if not first <= opened < stop:
            continue
        factor = _since(day, splits)
        prices = [str(_undone(rows.values[name][place], factor)) for name in PRICES]
        volume = rows.values["Volume"][place] / float(factor)
        cells = (*prices, str(round(volume) if math.isfinite(volume) else volume))
        time = str(day) if interval == "1d" else format_time(moment)
        bars.append(RawBar(symbol, time, cells[0], cells[1], cells[2], cells[3], cells[4]))
    return bars


def _since(day: date, splits: dict[date, float]) -> Decimal:
    """How many of today's shares one share of a day became."""
    return math.prod((Decimal(str(ratio)) for when, ratio in splits.items() if when > day), start=Decimal(1))


def _undone(value: float, factor: Decimal) -> Decimal:
    """A price without the splits after it, in the fewest digits that are Yahoo's number."""
    narrow = np.float32(value)
    plain = Decimal(str(narrow if float(narrow) == value else value))
    return plain if factor == 1 else _SEVEN.multiply(plain, factor)


def _digest(rows: Rows | Refused) -> str:
    return hashlib.sha256(repr(rows).encode()).hexdigest()
