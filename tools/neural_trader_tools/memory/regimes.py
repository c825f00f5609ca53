"""The regime of a symbol's market at a moment: memories are written with it, and found by it."""

from datetime import datetime

from anyio import to_thread

from neural_trader_governance.errors import DataError, InputError
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock


async def regime_at(archive: Archive, clock: ReplayClock, symbol: str, as_of: datetime | None) -> list[float]:
    """Returns the 33 numbers of `features.regime.regime_vector` over the daily bars that were known.

    Args:
        archive: Where the bars are.
        clock: Where the desk replays the past, later bars stay unseen whatever `as_of` says.
        symbol: Whose market.
        as_of: Bars that were known later, or opened later, do not count; None: now.

    Raises:
        InputError: too few bars were known, or one of the last has no price (`no_regime`).
        DataError: the archive has no such bars.
    """
    return await to_thread.run_sync(_regime, archive, clock, symbol, as_of)


async def regime_when_written(
    archive: Archive, clock: ReplayClock, symbols: list[str], as_of: datetime | None
) -> list[float] | None:
    """Returns the regime that a memory is written in: of its one symbol, where that has one."""
    if len(symbols) != 1:
        return None
    try:
        return await regime_at(archive, clock, symbols[0], as_of)
    except (InputError, DataError):  # a symbol without a year of prices can be remembered as well
        return None


def _regime(archive: Archive, clock: ReplayClock, symbol: str, as_of: datetime | None) -> list[float]:
    import polars as pl

    horizon = clock.horizon()
    if horizon is not None:
        as_of = horizon if as_of is None else min(as_of, horizon)
    bars = archive.bars(symbol, "1d", as_of=as_of, adjust="total")
    if as_of is not None:  # a source's own known_time is believed by the archive; here both must have passed
        bars = bars.filter((pl.col("known_time") <= as_of) & (pl.col("event_time") <= as_of))
    from neural_trader_tools.features.regime import regime_vector

    try:
        return [float(each) for each in regime_vector(bars)]
    except ValueError as error:
        raise InputError(
            "no_regime",
            f"{symbol} has no regime at that time ({error!s:.200})",
            "name a symbol with a year of daily bars, or a later as_of",
        ) from None
