"""Do "times like these" tell what comes next? Recall by regime on the sample's real prices, against chance.

    python benchmarks/memory/regime_study.py [--shifts 999] [--controls 40] [--picture docs/regime-study.svg]

Every fifth day of a symbol asks for the 20 days of its own past whose regime vectors (33 numbers,
standardised by the past alone, as the memory keeps them) are nearest, among every fifth day whose outcome was
known by then. What followed those is the prediction, as far as it differs from what followed all of them. It
is held against what did follow, by rank correlation: 0 is no use, 1 is prophecy.

Chance is not 0 here: outcomes of neighbouring days overlap, and regimes last for months. So the regimes are
shifted in time, all at once and around the end, which keeps their persistence and that of the outcomes and
breaks only the link between them; the whole recall is done again for each shift. The p-value is the share of
shifts that do as well. There are several symbols and outcomes, so p is corrected for their number (Holm).
Volatility lasts, and any measure of it foretells it; `beyond` is what recall adds to the last 20 days'
volatility alone.

Controls say whether the method itself can be believed: random walks, of which 5 % may pass at 5 %, and the
same walks with an outcome that does follow from the regime, which must be found.
"""

import argparse
import json
import math
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from neural_trader_tools.features.regimes import regime_vectors
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.patterns.history import known_history
from neural_trader_tools.market.providers.sample import fetch_sample

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT", "^GSPC", "^IXIC", "WTI")
"""FB and ^VIX have too short a past."""
OUTCOMES = ("return, 5 days", "return, 20 days", "volatility, 5 days", "volatility, 20 days")
HORIZONS = (5, 20, 5, 20)
STEP = 5
RECALLED = 20
ASK_AFTER = 100
"""Days that can be recalled before the first question: 500 bars."""
BLOCK = 26
"""Questions a block of the bootstrap: half a year."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol on every fifth day.

    Attributes:
        vectors: Shape (days, 33).
        outcomes: Shape (4, days), NaN where the future is not over.
        volatility: Of the 20 days before, of daily log returns.
    """

    symbol: str
    first: str
    last: str
    vectors: Floats
    outcomes: Floats
    volatility: Floats


@dataclass(frozen=True, slots=True)
class Finding:
    """One symbol's outcome; `p` by shifts, `p_holm` corrected for all of them.

    Attributes:
        ic: Rank correlation of prediction and outcome.
        low: 2.5 % of what shifted regimes reach; `high`: 97.5 %.
        ic_low: 2.5 % of the correlation, by a bootstrap of half years; `ic_high`: 97.5 %.
        spread: What followed the third of days with the best predictions, less that of the worst third.
        beyond: Rank correlation where the last 20 days' volatility is held fixed.
    """

    symbol: str
    outcome: str
    questions: int
    ic: float
    ic_low: float
    ic_high: float
    low: float
    high: float
    p: float
    p_holm: float
    spread: float
    beyond: float
    beyond_p: float


def series_of(symbol: str, bars: pl.DataFrame, close: Floats) -> Series:
    vectors = regime_vectors(bars)
    steps = np.diff(np.log(close), prepend=np.nan)
    square = np.square(steps)
    outcomes = np.full((4, close.size), np.nan)
    past = np.full(close.size, np.nan)
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(square))])
    for row, horizon in enumerate(HORIZONS):
        last = close.size - horizon
        if row < 2:
            outcomes[row, :last] = np.log(close[horizon:] / close[:last])
        else:
            outcomes[row, :last] = np.sqrt((total[1 + horizon :] - total[1 : last + 1]) / horizon)
    past[20:] = np.sqrt((total[21:] - total[1:-20]) / 20)
    usable = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    days = usable[::STEP]
    opened = bars.get_column("event_time")
    return Series(
        symbol,
        str(opened[int(days[0])].date()),
        str(opened[int(days[-1])].date()),
        vectors[days],
        outcomes[:, days],
        past[days],
    )


def distances(vectors: Floats) -> NDArray[np.float32]:
    square = np.square(vectors).sum(axis=1)
    found = square[:, None] + square[None, :] - 2 * vectors @ vectors.T
    return np.maximum(found, 0.0).astype(np.float32)


def predict(apart: NDArray[np.float32], outcomes: Floats) -> Floats:
    """Returns predictions, shape (4, questions), of the days from `ASK_AFTER` on.

    Args:
        apart: Squared distance of each two days' regimes.
        outcomes: Shape (4, days).
    """
    count = apart.shape[0]
    days = np.arange(count)
    made = np.full((4, count - ASK_AFTER), np.nan)
    for horizon in (5, 20):
        late = math.ceil(horizon / STEP)
        ended = days[None, :] + late <= days[ASK_AFTER:, None]
        near = np.where(ended, apart[ASK_AFTER:], np.float32(np.inf))
        chosen = np.argpartition(near, RECALLED, axis=1)[:, :RECALLED]
        for row in [row for row, each in enumerate(HORIZONS) if each == horizon]:
            usual = np.cumsum(np.nan_to_num(outcomes[row])) / (days + 1)
            made[row] = outcomes[row][chosen].mean(axis=1) - usual[days[ASK_AFTER:] - late]
    return made


def correlate(predicted: Floats, happened: Floats) -> float:
    both = np.isfinite(predicted) & np.isfinite(happened)
    x, y = stats.rankdata(predicted[both]), stats.rankdata(happened[both])
    return float(np.corrcoef(x, y)[0, 1])


def residual(values: Floats, held: Floats) -> Floats:
    """Returns ranks less what the ranks of `held` explain; NaN where either is."""
    both = np.isfinite(values) & np.isfinite(held)
    out = np.full(values.size, np.nan)
    x, y = stats.rankdata(held[both]), stats.rankdata(values[both])
    out[both] = y - np.polyval(np.polyfit(x, y, 1), x)
    return out


def judge(one: Series, places: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Returns correlations and those beyond volatility: of the regimes (4), and of each shift (shifts, 4)."""
    apart = distances(one.vectors)
    asked = one.outcomes[:, ASK_AFTER:]
    held = one.volatility[ASK_AFTER:]
    left = [residual(each, held) for each in asked]

    def both(predicted: Floats) -> tuple[list[float], list[float]]:
        plain = [correlate(predicted[row], asked[row]) for row in range(4)]
        return plain, [correlate(residual(predicted[row], held), left[row]) for row in range(4)]

    true, true_beyond = both(predict(apart, one.outcomes))
    null, beyond = np.empty((places.size, 4)), np.empty((places.size, 4))
    size = apart.shape[0]
    margin = 50  # a year: a shorter shift would leave regimes where they were
    for row, place in enumerate(places):
        moved = np.roll(np.arange(size), margin + round(place * (size - 2 * margin)))
        null[row], beyond[row] = both(predict(apart[np.ix_(moved, moved)], one.outcomes))
    return np.array(true), np.array(true_beyond), null, beyond


def interval(predicted: Floats, happened: Floats, chance: np.random.Generator) -> tuple[float, float]:
    both = np.flatnonzero(np.isfinite(predicted) & np.isfinite(happened))
    drawn: list[float] = []
    for _ in range(500):
        starts = chance.integers(0, both.size - BLOCK, math.ceil(both.size / BLOCK))
        rows = both[(starts[:, None] + np.arange(BLOCK)).ravel()]
        drawn.append(correlate(predicted[rows], happened[rows]))
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def holm(values: list[float]) -> list[float]:
    order = np.argsort(values)
    out, worst = np.empty(len(values)), 0.0
    for rank, at in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[at]))
        out[at] = worst
    return out.tolist()


def share(true: float, null: Floats) -> float:
    return float((1 + np.count_nonzero(null >= true)) / (1 + null.size))


def study(several: list[Series], shifts: int, seed: int = 20121) -> tuple[list[Finding], list[Finding]]:
    """Returns what is found for each symbol and outcome, and for all symbols together."""
    chance = np.random.default_rng(seed)
    places = chance.random(shifts)  # the same shift for all symbols: they share a market
    rows: list[Finding] = []
    judged = [judge(one, places) for one in several]
    for one, (true, true_beyond, null, beyond) in zip(several, judged, strict=True):
        predicted = predict(distances(one.vectors), one.outcomes)
        for row, outcome in enumerate(OUTCOMES):
            happened = one.outcomes[row, ASK_AFTER:]
            known = np.isfinite(happened)
            order = np.argsort(predicted[row][known], kind="stable")
            third = order.size // 3
            spread = happened[known][order[-third:]].mean() - happened[known][order[:third]].mean()
            low, high = interval(predicted[row], happened, chance)
            rows.append(
                Finding(
                    one.symbol,
                    outcome,
                    int(known.sum()),
                    float(true[row]),
                    low,
                    high,
                    *np.quantile(null[:, row], [0.025, 0.975]).tolist(),
                    share(float(true[row]), null[:, row]),
                    math.nan,
                    float(spread),
                    float(true_beyond[row]),
                    share(float(true_beyond[row]), beyond[:, row]),
                )
            )
    together: list[Finding] = []
    for row, outcome in enumerate(OUTCOMES):
        true = float(np.mean([each[0][row] for each in judged]))
        further = float(np.mean([each[1][row] for each in judged]))
        null = np.mean([each[2][:, row] for each in judged], axis=0)
        beyond = np.mean([each[3][:, row] for each in judged], axis=0)
        mine = [each for each in rows if each.outcome == outcome]
        together.append(
            Finding(
                "all, mean",
                outcome,
                sum(each.questions for each in mine),
                true,
                math.nan,
                math.nan,
                *np.quantile(null, [0.025, 0.975]).tolist(),
                share(true, null),
                math.nan,
                float(np.mean([each.spread for each in mine])),
                further,
                share(further, beyond),
            )
        )
    return corrected(rows), corrected(together)


def corrected(rows: list[Finding]) -> list[Finding]:
    fixed = holm([each.p for each in rows])
    return [Finding(**{**asdict(each), "p_holm": p}) for each, p in zip(rows, fixed, strict=True)]


def controls(count: int, shifts: int) -> tuple[float, float]:
    """Returns how many tests of random walks pass at 5 %, and how many of an outcome that does follow."""
    passed, found = [], []
    for seed in range(count):
        chance = np.random.default_rng(1_000 + seed)
        close = 100 * np.exp(np.cumsum(0.01 * chance.standard_normal(2_600)))
        opened = [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(close.size)]
        noise = np.abs(0.003 * chance.standard_normal((2, close.size))) + 1
        bars = pl.DataFrame(
            {
                "event_time": opened,
                "known_time": opened,
                "open": close,
                "high": close * noise[0],
                "low": close / noise[1],
                "close": close,
                "volume": np.full(close.size, 1e6),
            }
        )
        one = series_of("walk", bars, close)
        places = chance.random(shifts)
        true, _, null, _ = judge(one, places)
        passed += [share(float(true[row]), null[:, row]) <= 0.05 for row in range(4)]
        follows = one.vectors[:, 0] + chance.standard_normal(one.vectors.shape[0])
        planted = Series(*("walk", "", ""), one.vectors, np.tile(follows, (4, 1)), one.volatility)
        true, _, null, _ = judge(planted, places)
        found.append(share(float(true[0]), null[:, 0]) <= 0.05)
    return float(np.mean(passed)), float(np.mean(found))


def draw(rows: list[Finding], together: list[Finding], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "regime", "font.size": 8, "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(9, 2.6), sharey=True, sharex=True, layout="constrained")
    for axis, outcome in zip(axes, OUTCOMES, strict=True):
        mine = [each for each in (*rows, *together) if each.outcome == outcome][::-1]
        for place, each in enumerate(mine):
            axis.plot(
                [each.low, each.high], [place, place], color="#c8c8c8", linewidth=6, solid_capstyle="butt"
            )
            real = each.p_holm <= 0.05
            axis.plot(each.ic, place, "o", color="#b3261e" if real else "#444444", markersize=4)
        axis.axvline(0, color="#888888", linewidth=0.6)
        axis.set_title(outcome, fontsize=8)
        axis.set_yticks(range(len(mine)), [each.symbol for each in mine])
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "rank correlation; grey: 95 % of shifted regimes; red: better than chance, corrected", fontsize=8
    )
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shifts", type=int, default=999)
    parser.add_argument("--controls", type=int, default=0, help="random walks; 40 take minutes")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        fetch_sample(archive)
        several: list[Series] = []
        for symbol in SYMBOLS:
            found = known_history(archive, symbol, "1d", None)
            usable = np.isfinite(found.close) & (found.close > 0)
            several.append(series_of(symbol, found.bars.filter(pl.Series(usable)), found.close[usable]))
    rows, together = study(several, asked.shifts)
    heads = (
        ("", 12),
        ("outcome", -22),
        ("asked", 6),
        ("ic", 7),
        ("95 %", 15),
        ("shifted 95 %", 17),
        ("p", 8),
    )
    heads += (("Holm", 7), ("spread", 9), ("beyond", 8), ("p", 7))
    print("".join(f"{name:>{width}}" if width > 0 else f"{name:{-width}}" for name, width in heads))
    for each in (*rows, *together):
        print(
            f"{each.symbol:12}{each.outcome:22}{each.questions:6d}{each.ic:7.3f}"
            f"  [{each.ic_low:5.2f} {each.ic_high:5.2f}]  [{each.low:6.2f} {each.high:6.2f}]"
            f"{each.p:8.3f}{each.p_holm:7.3f}{each.spread:9.4f}{each.beyond:8.3f}{each.beyond_p:7.3f}"
        )
    for one in several:
        print(f"{one.symbol}: {one.first} to {one.last}, {one.vectors.shape[0]} days")
    if asked.controls:
        false, right = controls(asked.controls, min(asked.shifts, 199))
        print(f"controls: {false:.3f} of random walks' tests pass at 5 %, {right:.3f} of planted ones")
    if asked.picture:
        draw(rows, together, asked.picture)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in (*rows, *together)], indent=1))


if __name__ == "__main__":
    main()
