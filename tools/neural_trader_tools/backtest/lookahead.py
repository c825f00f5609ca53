"""Look-ahead: where to cut a history, what to put in place of its future, and how two runs differ.

A strategy that sees the past only decides on the bars before a cut the same whatever follows it. So it is run
again with nothing behind the cut, and with another future behind it: as many bars, at the same times, so that
counting them tells nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.prices import DAY_US, VALUES, Prices
from neural_trader_tools.engine import orders as o

Floats = NDArray[np.float64]
Way = Literal["cut", "changed", "stream"]
"""cut: the strategy got the bars before the cut only. changed: the bars behind it were others. stream: it got
one bar at a time."""
RELATIVE: Final = 1e-9
ABSOLUTE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """One bar on which two runs decided differently: in words, without the real future and with it."""

    bar: int
    before: str
    after: str


def choose_cuts(stream: Floats, prices: Prices, count: int, seed: int) -> list[int]:
    """Returns how many bars to keep, ascending; about half where it hurts a peeker most, the rest anywhere.

    Where it hurts: just before and behind a change of the decision, before the largest moves, within and at
    the ends of months and days, at the first bars and decisions, and before the last bar.

    Args:
        stream: What was decided on all bars: (bars, 1) targets or (rows, 11) commands.
        prices: The bars.
        count: How many cuts at most.
        seed: Of what is drawn.
    """
    bars = len(prices)
    generator = np.random.default_rng(seed)
    changes = changed_bars(stream)
    moves = np.argsort(-np.abs(np.diff(np.log(prices.close))), kind="stable")[: max(2, count // 6)] + 1
    days = prices.times // DAY_US
    months = prices.times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    ends: list[NDArray[np.int64]] = [np.flatnonzero(np.diff(months)) + 1]  # first bars of a month
    if len(np.unique(days)) < bars:
        ends.append(np.flatnonzero(np.diff(days)) + 1)
    hard: list[list[int]] = [
        [bars - 1],
        _drawn(generator, changes, count // 6, (0, 1)),
        [int(bar) for bar in moves],
        *(_drawn(generator, starts, 1, (-1, -9, 0)) for starts in ends),
        [1, 2, *(int(bar) for bar in changes[:1])],
    ]
    chosen: list[int] = []
    for turn in range(max(map(len, hard))):  # one of each kind, then the next of each
        for kind in hard:
            if turn < len(kind) and kind[turn] not in chosen and 1 <= kind[turn] < bars:
                chosen.append(kind[turn])
    chosen = chosen[: max(1, count * 3 // 4)]
    rest = np.setdiff1d(np.arange(1, bars), chosen)
    chosen += [int(cut) for cut in generator.choice(rest, min(count - len(chosen), len(rest)), replace=False)]
    return sorted(chosen)


def changed_bars(stream: Floats) -> NDArray[np.int64]:
    """Returns the bars whose decision is not that of the bar before: new targets, and bars with orders."""
    if stream.shape[1] > 1:
        return np.unique(stream[:, o.BAR]).astype(np.int64)
    before, now = stream[:-1, 0], stream[1:, 0]
    return np.flatnonzero(~((before == now) | (np.isnan(before) & np.isnan(now)))) + 1


def other_future(prices: Prices, cut: int, seed: int) -> Prices:
    """Returns the bars with everything from `cut` on replaced by what might as well have come.

    Even seeds mirror the future (what rose falls, by the same factor) and shake it a little; odd ones put the
    shapes of the whole history's bars there in a drawn order. Volumes are drawn from the history.
    """
    generator = np.random.default_rng([seed, cut])
    names = VALUES[:4]
    ahead = len(prices) - cut
    logs = {name: np.log(getattr(prices, name)) for name in names}
    last = logs["close"][cut - 1]
    future: dict[str, Floats]
    if seed % 2 == 0:
        step = np.cumsum(generator.normal(0.0, 0.002, ahead))
        swapped = {"open": "open", "high": "low", "low": "high", "close": "close"}
        future = {name: 2.0 * last - logs[swapped[name]][cut:] + step for name in names}
    else:
        drawn = generator.integers(1, len(prices), ahead)
        starts = last + np.concatenate([[0.0], np.cumsum(np.diff(logs["close"])[drawn - 1])])[:-1]
        future = {name: starts + logs[name][drawn] - logs["close"][drawn - 1] for name in names}
    decimals = _decimals(prices.close)  # others would tell the two apart
    columns: dict[str, Floats] = {}
    for name in names:
        values = np.exp(np.clip(future[name], last - 12.0, last + 12.0))
        if decimals is not None:
            values = np.maximum(np.round(values, decimals), 10.0**-decimals)
        columns[name] = np.concatenate([getattr(prices, name)[:cut], values])
    columns["volume"] = np.concatenate([prices.volume[:cut], generator.choice(prices.volume, ahead)])
    columns["high"] = np.maximum.reduce([columns[name] for name in names])
    columns["low"] = np.minimum.reduce([columns[name] for name in names])
    return Prices(prices.symbol, prices.times.copy(), **columns)


def compare(part: Floats, whole: Floats, cut: int) -> list[Difference]:
    """Returns every bar before `cut` on which two streams decided differently.

    One of targets and one of orders differ from the first bar on: the kind of answer, too, is a decision.

    Args:
        part: Stream of the run that did not see the real future.
        whole: Stream of the run that did.
        cut: Bars that both saw.
    """
    if part.shape[1] != whole.shape[1]:
        return [Difference(0, f"{kind_of(part)} alone", f"{kind_of(whole)} alone")]
    if whole.shape[1] == 1:
        bars = np.flatnonzero(~_close(part[:cut, 0], whole[:cut, 0]))
        return [Difference(int(bar), f"{part[bar, 0]:.6g}", f"{whole[bar, 0]:.6g}") for bar in bars]
    part, whole = part[part[:, o.BAR] < cut], whole[whole[:, o.BAR] < cut]
    if part.shape == whole.shape and _close(part, whole).all():
        return []
    found: list[Difference] = []
    for bar in np.union1d(part[:, o.BAR], whole[:, o.BAR]):
        one, other = part[part[:, o.BAR] == bar], whole[whole[:, o.BAR] == bar]
        if one.shape != other.shape or not _close(one, other).all():
            found.append(Difference(int(bar), words_of(one), words_of(other)))
    return found


def kind_of(stream: Floats) -> str:
    """Returns `signals` or `orders`, by the shape of a run's stream."""
    return "signals" if stream.shape[1] == 1 else "orders"


def words_of(rows: Iterable[Floats]) -> str:
    """Returns a bar's commands in words: at most three, each with its side, size and prices."""
    said: list[str] = []
    for row in rows:
        size = f"{row[o.SIZE]:.6g}"
        if row[o.ACTION] == o.TARGET:
            said.append(f"target {size}")
        elif row[o.ACTION] == o.CANCEL:
            said.append(f"cancel {size}")
        else:
            prices = [
                f"{name} {row[column]:.6g}"
                for column, name in enumerate(o.COLUMNS)
                if o.LIMIT <= column <= o.STOP_LOSS and not np.isnan(row[column])
            ]
            said.append(" ".join(["buy" if row[o.SIDE] > 0 else "sell", size, *prices]))
    more = [f"and {len(said) - 3} more"] if len(said) > 3 else []
    return ", ".join([*said[:3], *more]) or "nothing"


def _close(one: Floats, other: Floats) -> NDArray[np.bool_]:
    return np.isclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)


def _decimals(values: Floats) -> int | None:
    """Returns how many decimals prices have, at most 6; None if they have more."""
    for decimals in range(7):
        if np.array_equal(values, np.round(values, decimals)):
            return decimals
    return None


def _drawn(
    generator: np.random.Generator, bars: NDArray[np.int64], count: int, offsets: tuple[int, ...]
) -> list[int]:
    """Returns some of the bars, drawn, each with the bars at these offsets from it."""
    picked = generator.choice(bars, size=min(max(count, 1), len(bars)), replace=False)
    return [int(bar) + offset for bar in picked for offset in offsets]
