"""Features over a million rows of real prices, tiled: our kernels beside polars' expressions, in one run.

Both sides get columns that are in memory and return columns; medians of five rounds after one warm-up.
Polars runs on its thread pool, ours on one thread.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, time_ms, write_results

from neural_trader_tools.features import catalogue

ROWS = 1_000_000
CLOSE, HIGH, LOW, VOLUME = pl.col("close"), pl.col("high"), pl.col("low"), pl.col("volume")
CHANGE = CLOSE.diff()
TRUE_RANGE = pl.max_horizontal(HIGH - LOW, (HIGH - CLOSE.shift(1)).abs(), (LOW - CLOSE.shift(1)).abs())
MEAN, DEVIATION = CLOSE.rolling_mean(20), CLOSE.rolling_std(20, ddof=0)
TYPICAL = (HIGH + LOW + CLOSE) / 3


def wilder(values: pl.Expr) -> pl.Expr:
    return values.ewm_mean(alpha=1 / 14, adjust=False)


GAIN, LOSS = wilder(CHANGE.clip(lower_bound=0)), wilder((-CHANGE).clip(lower_bound=0))
MACD = CLOSE.ewm_mean(span=12, adjust=False) - CLOSE.ewm_mean(span=26, adjust=False)
RAW_K = 100 * (CLOSE - LOW.rolling_min(14)) / (HIGH.rolling_max(14) - LOW.rolling_min(14))
PEERS = {
    "sma(20)": MEAN,
    "ema(20)": CLOSE.ewm_mean(span=20, adjust=False),
    "rsi(14)": 100 * GAIN / (GAIN + LOSS),
    "macd(12,26,9).signal": MACD.ewm_mean(span=9, adjust=False),
    "atr(14)": wilder(TRUE_RANGE),
    "bbands(20,2).percent_b": (CLOSE - MEAN + 2 * DEVIATION) / (4 * DEVIATION),
    "volatility(20,252)": CLOSE.log().diff().rolling_std(20) * 252**0.5,
    "zscore(20)": (CLOSE - MEAN) / DEVIATION,
    "rolling_max(20)": CLOSE.rolling_max(20),
    "stochastic(14,3,3).d": RAW_K.rolling_mean(3).rolling_mean(3),
    "obv": (CHANGE.sign().fill_null(1) * VOLUME).cum_sum(),
    "vwap(20)": (TYPICAL * VOLUME).rolling_sum(20) / VOLUME.rolling_sum(20),
}


def prices() -> pl.DataFrame:
    """The sample's Apple prices, repeated with the ends joined so that there is no jump."""
    spec = importlib.util.find_spec("bokeh_sampledata")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the sample data is missing: pip install '.[sample]'")
    table = pl.read_csv(Path(spec.submodule_search_locations[0]) / "_data" / "stocks.csv.gz")
    apple = table.filter(pl.col("Ticker") == "AAPL").select(
        pl.col(name).cast(pl.Float64).alias(name.lower())
        for name in ("Open", "High", "Low", "Close", "Volume")
    )
    there_and_back = pl.concat([apple, apple.reverse()])
    repeats = -(-ROWS // there_and_back.height)
    return pl.concat([there_and_back] * repeats).head(ROWS).rechunk()


def main() -> None:
    bars = prices()
    cases: list[Case] = []
    for expression, peer in PEERS.items():
        ours = catalogue.evaluate(expression, bars)
        theirs = bars.select(peer.alias("peer")).to_series().fill_null(np.nan).to_numpy()
        late = slice(-1000, None)  # the two start their recursions differently, which fades
        np.testing.assert_allclose(ours[late], theirs[late], rtol=1e-5, atol=1e-5)
        cases.append(
            Case(
                f"{expression}, 1M bars",
                time_ms(lambda expression=expression: catalogue.evaluate(expression, bars)),
                time_ms(lambda peer=peer: bars.select(peer.alias("peer"))),
                f"polars {pl.__version__}",
                "ms",
            )
        )
    together = [peer.alias(name) for name, peer in PEERS.items()]
    cases.append(
        Case(
            f"all {len(PEERS)}, 1M bars",
            time_ms(lambda: [catalogue.evaluate(expression, bars) for expression in PEERS]),
            time_ms(lambda: bars.select(together)),
            f"polars {pl.__version__}",
            "ms",
        )
    )
    write_results("features", cases)


if __name__ == "__main__":
    main()
