"""Our backtests beside other engines: the targets of the project as ratios, measured in one run.

Run `make bench-backtest`. Each part is a child process of its own, so that memory and machine code of one
engine do not help another; within a part both sides run by turns on the same arrays, warm, and whatever ought
to be equal is compared before it is timed. Ours runs outside the sandbox: features, rule, trusted replay,
metrics. What the sandbox costs is measured in benchmarks/sandbox.py.
"""

import gc
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, write_results

BARS = 1_000_000
BARS_SLOW = 100_000
CASH = 100_000.0
RATE = 0.001
SYMBOLS, DAYS = 500, 2_520


def by_turns(*actions: Callable[[], object], rounds: int = 7) -> list[float]:
    """Returns the median milliseconds of each action, run by turns after one warm-up each."""
    samples: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds + 1):
        for action, times in zip(actions, samples, strict=True):
            gc.collect()
            start = time.perf_counter()
            action()
            if turn:
                times.append((time.perf_counter() - start) * 1e3)
    return [median(times) for times in samples]


def once(action: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what one call gives and its milliseconds."""
    start = time.perf_counter()
    return action(), (time.perf_counter() - start) * 1e3


def single() -> list[Case]:
    """SMA 20/50, long or flat, at the next open, 0.1 % commission, with full statistics."""
    pd: Any = import_module("pandas")
    phasor: Any = import_module("phasor")
    raptorbt: Any = import_module("raptorbt")
    vectorbt: Any = import_module("vectorbt")
    from backtest import walk

    from neural_trader_tools.backtest.metrics import compute_metrics
    from neural_trader_tools.backtest.replay import Replay, replay_symbol
    from neural_trader_tools.backtest.settings import Settings
    from neural_trader_tools.engine.guest import call_rule, load
    from neural_trader_tools.engine.rule import find_rule
    from neural_trader_tools.features.catalogue import evaluate

    prices = walk(BARS)
    frame, settings = prices.frame(), Settings(commission_bps=RATE * 1e4)
    rule = find_rule(load(RULE))
    assert rule is not None
    index = pd.DatetimeIndex(prices.times.astype("datetime64[us]"))
    close, open_ = pd.Series(prices.close, index), pd.Series(prices.open, index)
    config = raptorbt.BacktestConfig(initial_capital=CASH, fees=RATE, fill_timing="next_bar_open")

    def ours() -> tuple[float, int]:
        replay = replay_symbol("signals", call_rule(rule, frame, {}, evaluate), prices, settings, CASH)
        metrics = compute_metrics(Replay.combine([replay], CASH), 252 * 390)
        return metrics.return_total, metrics.trade_count

    def signals(fast: Any, slow: Any) -> tuple[Any, Any]:
        return fast > slow, fast <= slow

    def of_phasor() -> tuple[float, int]:
        fast, slow = (phasor.indicators.ma(prices.close, window).ma[:, 0] for window in (20, 50))
        made = phasor.from_signals(
            prices.close, *signals(fast, slow), open=prices.open, price="nextopen", init_cash=CASH, fees=RATE
        )
        found = made.stats()
        return found["Total Return [%]"] / 100, found["Total Trades"]

    def of_raptor() -> tuple[float, int]:
        fast, slow = raptorbt.sma(prices.close, 20), raptorbt.sma(prices.close, 50)
        found = raptorbt.run_single_backtest(
            prices.times * 1000, prices.open, prices.high, prices.low, prices.close, prices.volume,
            *signals(fast, slow), 1, 1.0, "X", config,
        )  # fmt: skip
        return found.metrics.total_return_pct / 100, found.metrics.total_trades

    def of_vectorbt(engine: str) -> tuple[float, int]:
        fast, slow = (vectorbt.MA.run(close, window, engine=engine).ma for window in (20, 50))
        entries, exits = signals(fast, slow)
        made = vectorbt.Portfolio.from_signals(
            close, entries.vbt.signals.fshift(1), exits.vbt.signals.fshift(1), price=open_, fees=RATE,
            init_cash=CASH, freq="1min", engine=engine,
        )  # fmt: skip
        found = made.stats()
        return found["Total Return [%]"] / 100, found["Total Trades"]

    expected = ours()
    peers: dict[str, Callable[[], tuple[float, int]]] = {
        "phasor-trader": of_phasor,
        "vectorbt, rust": lambda: of_vectorbt("rust"),
        "vectorbt, numba": lambda: of_vectorbt("numba"),
        "raptorbt": of_raptor,
    }
    for name, peer in peers.items():
        np.testing.assert_allclose(peer(), expected, rtol=1e-6, err_msg=name)
    mine, *theirs = by_turns(ours, *peers.values(), rounds=15)
    cases = [
        Case("SMA 20/50, 1M bars, statistics", mine, took, name, "ms")
        for name, took in zip(peers, theirs, strict=True)
    ]
    took = median(once(lambda: slow_single(prices))[1] for _ in range(5))
    return [*cases, Case("SMA 20/50, 1M bars, statistics", mine, took, "backtesting.py, 5 runs", "ms")]


RULE = """
FEATURES = ("sma(20)", "sma(50)")
def rule(fast, slow):
    return 1.0 if fast > slow else 0.0
"""


def title_frame(prices: Any) -> Any:
    """Returns bars as backtesting.py wants them."""
    pd: Any = import_module("pandas")

    index = pd.DatetimeIndex(prices.times.astype("datetime64[us]"))
    columns = ("open", "high", "low", "close", "volume")
    return pd.DataFrame({name.title(): getattr(prices, name) for name in columns}, index=index)


def slow_single(prices: Any) -> Any:
    """The same in backtesting.py, whose units are whole."""
    peer: Any = import_module("backtesting")
    pd: Any = import_module("pandas")

    class Cross(peer.Strategy):
        def init(self) -> None:
            self.fast, self.slow = (
                self.I(
                    lambda values, window=window: pd.Series(values).rolling(window).mean(), self.data.Close
                )
                for window in (20, 50)
            )

        def next(self) -> None:
            if self.fast[-1] > self.slow[-1]:
                if not self.position:
                    self.buy()
            elif self.position:
                self.position.close()

    return peer.Backtest(title_frame(prices), Cross, cash=1e7, commission=RATE, finalize_trades=True).run()


def sweep() -> list[Case]:
    """10,000 pairs of averages over 10,000 bars; the peer runs 1,000 of them in its parallel batch."""
    from sweeps import EACH, FASTS, SLOWS, Engine, prices

    bars = prices()
    engine = Engine(bars)
    engine.sweep()
    samples = [once(engine.sweep)[1] for _ in range(9)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    raptorbt: Any = import_module("raptorbt")

    config = raptorbt.BacktestConfig(initial_capital=CASH, fees=RATE, fill_timing="next_bar_open")

    def theirs() -> object:
        averages = {window: raptorbt.sma(bars.close, window) for window in (*list(FASTS)[:10], *SLOWS)}
        items = [
            raptorbt.BatchSingleItem(
                f"{fast},{slow}", averages[fast] > averages[slow], averages[fast] <= averages[slow]
            )
            for fast in list(FASTS)[:10]
            for slow in SLOWS
        ]
        return raptorbt.batch_single_backtest(
            bars.times * 1000, bars.open, bars.high, bars.low, bars.close, bars.volume, items, config
        )

    theirs()
    took = median(once(theirs)[1] for _ in range(3)) * EACH / 10
    return [
        Case("10,000 combinations x 10,000 bars", median(samples), took, "raptorbt, 1,000 x 10", "ms"),
        Case("… peak memory", peak_mb, 250.0, "bound", "MB"),
    ]


def orders() -> list[Case]:
    """A limit entry each fifth bar with take-profit and stop-loss: compiled, and in Python."""
    phasor: Any = import_module("phasor")
    from strategies import BRACKET, COMPILED, frame, running

    from neural_trader_tools.backtest.prices import Prices

    def read(bars: Any) -> Prices:
        columns = [bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume")]
        return Prices("X", bars["time"].to_physical().to_numpy(), *columns)

    many, few = frame(BARS), frame(BARS_SLOW)
    prices = read(many)
    compiled = running(COMPILED, many)
    entries = np.zeros(BARS, dtype=bool)
    entries[4::5] = True

    def of_phasor() -> object:
        return phasor.from_signals(
            prices.close, entries, np.zeros(BARS, dtype=bool), open=prices.open, high=prices.high,
            low=prices.low, size=100.0, init_cash=1e7, fees=RATE, order_type="limit", limit_delta=0.0005,
            limit_delay=True, tp_stop=0.002, sl_stop=0.002, stop_entry_price="fillprice",
            upon_adj_limit_conflict="cancelexecute",
        ).stats()  # fmt: skip

    mine, theirs = by_turns(compiled, of_phasor)
    python_ms = by_turns(running(BRACKET, few))[0] * BARS / BARS_SLOW
    peer: Any = import_module("backtesting")

    class Bracket(peer.Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            if len(self.data) % 5 == 0 and not self.position:
                for order in list(self.orders):
                    order.cancel()
                limit = self.data.Close[-1] * 0.9995
                self.buy(size=100, limit=limit, tp=limit * 1.002, sl=limit * 0.998)

    _, slow = once(
        lambda: peer.Backtest(
            title_frame(read(few)), Bracket, cash=1e7, commission=RATE, finalize_trades=True
        ).run()
    )
    slow *= BARS / BARS_SLOW
    tenth = "backtesting.py, 100,000 bars x 10"
    bound = BARS / 1e6 / 1e2 * 1e3
    return [
        Case("limit, take-profit, stop-loss, compiled, 1M bars", mine, theirs, "phasor-trader, stats", "ms"),
        Case("limit, take-profit, stop-loss, compiled, 1M bars", mine, slow, tenth, "ms"),
        Case(f"… {BARS / mine / 1e3:.0f}M bars/s", mine, bound, "bound: 100M bars/s", "ms"),
        Case("the same in Python's on_bar, 100,000 bars x 10", python_ms, slow, tenth, "ms"),
        Case(f"… {BARS / python_ms / 1e3:.2f}M bars/s", python_ms, 1e3, "bound: 1M bars/s", "ms"),
    ]


def portfolio() -> list[Case]:
    """Equal weights of 500 symbols, restored monthly and daily at the next open, 0.1 % commission."""
    pd: Any = import_module("pandas")
    phasor: Any = import_module("phasor")
    vectorbt: Any = import_module("vectorbt")

    from neural_trader_tools.engine import portfolio as engine
    from neural_trader_tools.engine.account import ACCOUNT_SIZE, make_rules

    chance = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(chance.normal(0, 0.01, (DAYS, SYMBOLS)), 0))
    open_ = np.vstack([close[:1], close[:-1]])
    times = np.arange(DAYS, dtype=np.int64) * 86_400_000_000
    starts = np.arange(DAYS + 1, dtype=np.int64) * SYMBOLS
    symbols = np.tile(np.arange(SYMBOLS), DAYS)
    volume = np.full(DAYS * SYMBOLS, 1e6)
    rules = make_rules(commission=RATE)
    cases: list[Case] = []
    for name, step in (("monthly", 21), ("daily", 1)):
        rows = np.arange(0, DAYS - 1, step)
        weights = np.full((len(rows), SYMBOLS), 1 / SYMBOLS)
        asked = np.full((DAYS, SYMBOLS), np.nan)
        asked[rows + 1] = weights
        fills = np.empty((len(engine.FILL_COLUMNS), engine.fills_max(weights, DAYS * SYMBOLS, rules)))
        equity, gross, net = (np.empty(DAYS) for _ in range(3))

        def ours(
            rows: Any = rows, weights: Any = weights, fills: Any = fills, lines: Any = (equity, gross, net)
        ) -> float:
            engine.play_portfolio(
                times, starts, symbols, open_.ravel(), close.ravel(), volume, np.empty(0), rows, weights,
                1e6, rules, False, np.zeros(ACCOUNT_SIZE), np.zeros(SYMBOLS), fills,
                np.empty(SYMBOLS), *lines,
            )  # fmt: skip
            return lines[0][-1]

        def of_vectorbt(kind: str, asked: Any = asked) -> float:
            made = vectorbt.Portfolio.from_orders(
                pd.DataFrame(close), size=asked, size_type="targetpercent", price=open_, fees=RATE,
                init_cash=1e6, cash_sharing=True, group_by=True, call_seq="auto", freq="1D", engine=kind,
            )  # fmt: skip
            return float(made.value().iloc[-1])

        def of_phasor(asked: Any = asked) -> float:
            made = phasor.from_orders(
                close, asked, size_type="targetpercent", price=open_, fees=RATE, init_cash=1e6,
                cash_sharing=True, call_seq="auto",
            )  # fmt: skip
            return float(made.value(group=0)[-1])

        peers: dict[str, Callable[[], float]] = {
            "vectorbt, rust": lambda run=of_vectorbt: run("rust"),
            "vectorbt, numba": lambda run=of_vectorbt: run("numba"),
            "phasor-trader": of_phasor,
        }
        expected = ours()
        for peer_name, peer in peers.items():  # a weight of ours includes its commission
            np.testing.assert_allclose(peer(), expected, rtol=1e-3, err_msg=peer_name)
        mine, *theirs = by_turns(ours, *peers.values(), rounds=15)
        cases += [
            Case(f"{SYMBOLS} symbols x {DAYS} days, {name}", mine, took, peer_name, "ms")
            for peer_name, took in zip(peers, theirs, strict=True)
        ]
    return cases


PARTS = {"single": single, "sweep": sweep, "orders": orders, "portfolio": portfolio}


def main() -> None:
    cases: list[Case] = []
    for part in PARTS:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, __file__, part], stdout=subprocess.PIPE, check=True, text=True)
        cases += [Case(**row) for row in json.loads(done.stdout.splitlines()[-1])]
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    write_results("peers", cases)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        warnings.simplefilter("ignore")
        print(json.dumps([asdict(case) for case in PARTS[sys.argv[1]]()]))
    else:
        main()
