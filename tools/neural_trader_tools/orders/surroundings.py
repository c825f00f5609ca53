"""An order's surroundings: what the market shows of its symbol at the desk's time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from statistics import median

from neural_trader_governance.errors import DataError
from neural_trader_governance.policy.contexts import BPS_MAX
from neural_trader_governance.terms.market import Quote
from neural_trader_governance.terms.orders import Side
from neural_trader_tools.market.archive import Archive, ListedInstrument
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.trading_hours import why_closed

VOLUME_SESSIONS = 20
REFERENCE_SESSIONS = 5
_REMEMBERED_MAX = 1_000
_KEPT_UP = timedelta(days=7)
"""Bars shorter than a day make the time of day count while they come; a few old ones do not."""
_REACH = timedelta(days=60)
"""In which 20 sessions lie, whatever holidays there are; a series that stopped earlier is no measure."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of a symbol.

    Attributes:
        desk_time: The replay clock's moment.
        tradable: False for an index or a rate.
        quote: The last price known, or None.
        closed: Why the venue does not trade now; empty where it does.
        mean_volume: Units a day over 20 sessions; 0 where it is not known.
        reference_price: Median close of 5 sessions, in USD on today's share basis; 0 where none is known.
        currency: What the prices are in.
    """

    desk_time: datetime
    tradable: bool
    quote: Quote | None
    closed: str
    mean_volume: Decimal
    reference_price: Decimal
    currency: str = "USD"

    @property
    def quote_age_s(self) -> int:
        """Age of the price against the desk's clock; 0 where there is none."""
        return max(0, int((self.desk_time - self.quote.event_time).total_seconds())) if self.quote else 0

    def volume_share_bps(self, quantity: Decimal) -> int:
        """Returns the quantity over the mean daily volume, rounded up; 0 where that is not known."""
        return _bps_up(quantity, self.mean_volume)

    def reference_move_bps(self, side: Side, price: Decimal) -> int:
        """Returns how far the price has come from the reference, rounded up; 0 where there is none.

        The market counts either way; the order's own price where it is worse than the market (a limit far
        below the market buys nothing dear).
        """
        if self.quote is None or not self.reference_price:
            return 0
        last = self.quote.last
        worst = max(price, last) if side == "buy" else min(price, last)
        distance = max(abs(last - self.reference_price), abs(worst - self.reference_price))
        return _bps_up(distance, self.reference_price)


class Lookout:
    """Looks around, and remembers it until the clock moves or the symbol's data change.

    What was read before a transaction is so not read again in it, while others wait for the log.
    """

    def __init__(self, archive: Archive, replay: ReplayClock) -> None:
        self._archive = archive
        self._replay = replay
        self._seen: dict[str, tuple[object, Surroundings]] = {}

    def at(self, symbol: str) -> Surroundings:
        """Returns what is known of a symbol at the replay clock's time.

        Raises:
            DataError: the symbol is unknown, or the archive is empty.
        """
        instrument, now = self._archive.instrument(symbol), self._replay.now()
        versions = tuple(self._archive.data_version(symbol, each) for each in instrument.intervals)
        state = (now, instrument, versions)
        known = self._seen.get(symbol)
        if known is not None and known[0] == state:
            return known[1]
        if len(self._seen) >= _REMEMBERED_MAX:
            self._seen.clear()
        found = _look_around(self._archive, self._replay, instrument, now)
        if self._replay.now() == now:  # else the clock moved while we looked
            self._seen[symbol] = (state, found)
        return found


def _look_around(
    archive: Archive, replay: ReplayClock, instrument: ListedInstrument, now: datetime
) -> Surroundings:
    symbol = instrument.symbol
    try:
        quote = replay.quote(symbol)
    except DataError:
        quote = None
    volume = reference = Decimal(0)
    if "1d" in instrument.intervals:
        bars = archive.bars(symbol, "1d", start=now - _REACH, as_of=now)
        volumes = bars.get_column("volume").tail(VOLUME_SESSIONS).drop_nulls().drop_nans()
        closes = [float(close) for close in bars.get_column("close").tail(REFERENCE_SESSIONS).to_list()]
        volume = Decimal(repr(float(volumes.sum()))) / max(1, len(volumes))
        reference = Decimal(repr(median(closes))) if closes else Decimal(0)
    kept_up = tuple(
        each
        for each in instrument.intervals
        if each == "1d" or not archive.bars(symbol, each, start=now - _KEPT_UP, as_of=now).is_empty()
    )
    hours_of = instrument.model_copy(update={"intervals": kept_up})
    closed = why_closed(hours_of, now=now, last_made=quote.event_time if quote else None)
    return Surroundings(
        now, instrument.tradable, quote, closed, max(Decimal(0), volume), reference, instrument.currency
    )


def _bps_up(part: Decimal, whole: Decimal) -> int:
    if whole <= 0:
        return 0
    return min(BPS_MAX, int((part * 10_000 / whole).to_integral_value(ROUND_CEILING)))
