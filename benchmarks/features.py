"""Features over a million bars of real prices, tiled: beside TA-Lib, ta-lib-takt and polars, in one run.

Each side gets columns that are in memory and returns arrays; medians after one warm-up. One thread, and two
where it says so; polars runs on its own pool. TA-Lib is in the dependency group `peers`. ta-lib-takt is a
package `talib` as well: `make peers` puts it into .venv-takt, and a process of its own measures it there.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, time_ms, write_results

TAKT = Path(__file__).parent.parent / ".venv-takt"
ROWS = 1_000_000
UPDATES = 20_000
SYMBOLS, DAYS = 500, 2520
CLOSE, HIGH, LOW, VOLUME = pl.col("close"), pl.col("high"), pl.col("low"), pl.col("volume")
CHANGE = CLOSE.diff()
TRUE_RANGE = pl.max_horizontal(HIGH - LOW, (HIGH - CLOSE.shift(1)).abs(), (LOW - CLOSE.shift(1)).abs())
MEAN, DEVIATION = CLOSE.rolling_mean(20), CLOSE.rolling_std(20, ddof=0)
TYPICAL = (HIGH + LOW + CLOSE) / 3

TWENTY = {
    # ours: TA-Lib's function, inputs and parameters; None: numpy's formula below
    "sma(20)": ("SMA", "c", (20,)),
    "ema(20)": ("EMA", "c", (20,)),
    "rsi(14)": ("RSI", "c", (14,)),
    "macd(12,26,9)": ("MACD", "c", (12, 26, 9)),
    "bbands(20,2)": ("BBANDS", "c", (20, 2.0, 2.0)),
    "atr(14)": ("ATR", "hlc", (14,)),
    "adx(14)": ("ADX", "hlc", (14,)),
    "stochastic(14,3,3)": ("STOCH", "hlc", (14, 3, 0, 3, 0)),
    "cci(20)": ("CCI", "hlc", (20,)),
    "obv": ("OBV", "cv", ()),
    "williams_r(14)": ("WILLR", "hlc", (14,)),
    "mfi(14)": ("MFI", "hlcv", (14,)),
    "roc(10)": ("ROC", "c", (10,)),
    "vwap(20)": (None, "hlcv", (20,)),
    "kama(10)": ("KAMA", "c", (10,)),
    "trix(15)": ("TRIX", "c", (15,)),
    "aroon(25)": ("AROON", "hl", (25,)),
    "sar": ("SAR", "hl", (0.02, 0.2)),
    "volatility(20,252)": (None, "c", (20,)),
    "zscore(20)": (None, "c", (20,)),
}
"""Vwap, volatility and zscore are built from TA-Lib's SUM, STDDEV and SMA."""

SEVERAL = {
    "macd(12,26,9)": ("line", "signal", "histogram"),
    "bbands(20,2)": ("upper", "middle", "lower"),
    "stochastic(14,3,3)": ("k", "d"),
    "aroon(25)": ("up", "down"),
}
"""What TA-Lib's function returns where that is more than one array: ours is asked for as many."""


def asked(name: str) -> list[str]:
    """The expressions that together are one of the twenty."""
    return [f"{name}.{output}" for output in SEVERAL[name]] if name in SEVERAL else [name]


def wilder(values: pl.Expr) -> pl.Expr:
    return values.ewm_mean(alpha=1 / 14, adjust=False)


GAIN, LOSS = wilder(CHANGE.clip(lower_bound=0)), wilder((-CHANGE).clip(lower_bound=0))
MACD = CLOSE.ewm_mean(span=12, adjust=False) - CLOSE.ewm_mean(span=26, adjust=False)
RAW_K = 100 * (CLOSE - LOW.rolling_min(14)) / (HIGH.rolling_max(14) - LOW.rolling_min(14))
POLARS = {
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


def talib_actions(talib: Any, columns: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """How TA-Lib computes the twenty."""
    h, l, c, v = (columns[letter] for letter in "hlcv")  # noqa: E741

    def vwap() -> object:
        typical = (h + l + c) / 3
        return talib.SUM(typical * v, 20) / talib.SUM(v, 20)

    def volatility() -> object:
        change = np.empty_like(c)
        change[0] = np.nan
        np.log(c[1:] / c[:-1], out=change[1:])
        return talib.STDDEV(change[1:], 20, (20 / 19 * 252) ** 0.5)

    def zscore() -> object:
        return (c - talib.SMA(c, 20)) / talib.STDDEV(c, 20, 1.0)

    built = {"vwap(20)": vwap, "volatility(20,252)": volatility, "zscore(20)": zscore}
    return {
        ours: built[ours]
        if name is None
        else lambda name=name, inputs=inputs, params=params: getattr(talib, name)(
            *(columns[letter] for letter in inputs), *params
        )
        for ours, (name, inputs, params) in TWENTY.items()
    }


def takt_ms(bars: pl.DataFrame) -> dict[str, float]:
    """The same in a process that has ta-lib-takt; empty where there is none."""
    folder = next(map(str, TAKT.glob("lib/python*/site-packages")), None)
    if folder is None:
        print("ta-lib-takt is not measured: `make peers` installs it")
        return {}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file.name, **{name[0]: bars[name].to_numpy() for name in bars.columns})
        done = subprocess.run(
            [sys.executable, __file__, "takt", file.name], capture_output=True, check=True, text=True,
            env={**os.environ, "PYTHONPATH": folder},
        )  # fmt: skip
    return json.loads(done.stdout)


def measure_takt(path: str) -> None:
    import talib

    assert Path(talib.__file__).is_relative_to(TAKT), talib.__file__
    columns = dict(np.load(path))
    print(json.dumps({name: time_ms(action) for name, action in talib_actions(talib, columns).items()}))


def update_us(expressions: list[str], bars: pl.DataFrame) -> float:
    """Time of an update from Python, in microseconds."""
    from neural_trader_tools.features.incremental import IncrementalSet

    rows = list(bars.head(UPDATES).iter_rows())
    samples: list[float] = []
    for _ in range(7):
        update = IncrementalSet(expressions).update
        start = time.perf_counter()
        for row in rows:
            update(*row)
        samples.append((time.perf_counter() - start) / len(rows) * 1e6)
    return median(samples)


def main() -> None:
    from neural_trader_tools.features import catalogue
    from neural_trader_tools.features.frames import evaluate_all

    bars = prices()
    cases: list[Case] = []
    polars_name = f"polars {pl.__version__}"
    for expression, peer in POLARS.items():
        ours = catalogue.evaluate(expression, bars)
        theirs = bars.select(peer.alias("peer")).to_series().fill_null(np.nan).to_numpy()
        late = slice(-1000, None)  # the two start their recursions differently, which fades
        np.testing.assert_allclose(ours[late], theirs[late], rtol=1e-5, atol=1e-5)
    together = [peer.alias(name) for name, peer in POLARS.items()]
    cases.append(
        Case(
            f"{len(POLARS)} features, 1M bars, one thread",
            time_ms(lambda: [catalogue.evaluate(expression, bars) for expression in POLARS]),
            time_ms(lambda: bars.select(together)),
            polars_name,
            "ms",
        )
    )
    ours = {name: time_ms(lambda name=name: evaluate_all(asked(name), bars)) for name in TWENTY}
    every = [expression for name in TWENTY for expression in asked(name)]
    one = time_ms(lambda: evaluate_all(every, bars))
    two = time_ms(lambda: evaluate_all(every, bars, threads=2))
    peers: dict[str, dict[str, float]] = {}
    if importlib.util.find_spec("talib"):
        import talib

        columns = {name[0]: bars[name].to_numpy() for name in bars.columns}
        actions = talib_actions(talib, columns)
        peers["TA-Lib"] = {name: time_ms(action) for name, action in actions.items()}
    peers["ta-lib-takt"] = takt_ms(bars)
    for peer_name, times in peers.items():
        cases += [Case(f"{name}, 1M bars", ours[name], ms, peer_name, "ms") for name, ms in times.items()]
        if times:
            total = sum(times.values())
            cases.append(Case("the twenty, one thread", one, total, peer_name, "ms"))
            cases.append(Case("the twenty, two threads beside its one", two, total, peer_name, "ms"))
    count = SYMBOLS * DAYS
    long = pl.concat([bars] * (-(-count // ROWS))).head(count).with_columns(
        symbol=pl.int_range(count) // DAYS
    )  # fmt: skip
    six = ["sma(20)", "ema(20)", "rsi(14)", "atr(14)", "volatility(20,252)", "zscore(20)"]
    over = [POLARS[name].over("symbol").alias(name) for name in six]
    cases.append(
        Case(
            f"six features, {SYMBOLS} symbols x {DAYS} days, two threads",
            time_ms(lambda: evaluate_all(six, long, symbol="symbol", threads=2)),
            time_ms(lambda: long.select(over)),
            f"{polars_name}, over",
            "ms",
        )
    )
    us = update_us(list(TWENTY), bars)
    cases.append(Case("one update of the twenty, from Python", us, 1.5, "our bound", "us"))
    write_results("features", cases)


if __name__ == "__main__":
    if sys.argv[1:2] == ["takt"]:
        measure_takt(sys.argv[2])
    else:
        main()
