"""The guest: runs a user's strategy inside the sandbox and returns what it decided, never what it earned.

The import list below is a courtesy: it turns `import requests` into a sentence that helps. It keeps
nobody in; the sandbox around this process does that.
"""

import builtins
import importlib
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import CodeType
from typing import Any, Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel, step
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.event import Event, find_event, prepare
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import COLUMNS, Evaluate, feature_values
from neural_trader_tools.engine.imports import may_import
from neural_trader_tools.engine.live import LiveSession
from neural_trader_tools.engine.parameters import bind, function_parameters
from neural_trader_tools.engine.rule import Rule, find_rule
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import Strategy, configure
from neural_trader_tools.engine.surroundings import EPOCH, Surroundings, disturb

Floats = NDArray[np.float64]
FILENAME: Final = "<strategy>"
FEATURES: Final = "neural_trader_tools.features.catalogue"


def run_strategy(
    arguments: dict[str, Any],
    tables: dict[str, pl.DataFrame],
    report: Callable[[float], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Runs one strategy over the bars of one symbol. The entry point of the sandbox job.

    Args:
        arguments: `source` (text), `params` (object), `settings` (object with cash, commission_bps,
            slippage_bps, fill, lots), `seed` (int), and optionally `features`: the module whose
            `evaluate(expression, bars)` computes features, and `disturbance` (int): moves the addresses of
            objects, see `surroundings.disturb`.
        tables: `bars`: time, open, high, low, close, volume.
        report: Told the finished part, 0 … 1, while a class goes from bar to bar.

    Returns:
        `{"kind": "signals"}` with the column `target`, or `{"kind": "orders"}` with the columns of
        `orders.COLUMNS`. Whoever receives it must treat it as untrusted.

    Raises:
        StrategyFault: the strategy broke the contract. Whatever the user's code raises passes through.
    """
    frame = tables["bars"]
    params: Mapping[str, Any] = arguments.get("params", {})
    kept = disturb(int(arguments["disturbance"])) if "disturbance" in arguments else []
    with Surroundings(int(arguments.get("seed", 0)), frame["time"][0]) as surroundings:
        entry = find_entry(load(str(arguments["source"])))
        if isinstance(entry, Rule):
            return {"kind": "signals"}, {"target": call_rule(entry, frame, params, evaluator(arguments))}
        if isinstance(entry, Event):
            settings = arguments["settings"]
            rows = entry.commands(
                frame, params, float(settings["cash"]), rules(settings), evaluator(arguments)
            )
            return {"kind": "orders"}, {name: rows[:, place].copy() for place, name in enumerate(o.COLUMNS)}
        if not isinstance(entry, type):
            most = kernel.exposure_max(rules(arguments.get("settings", {})))
            return {"kind": "signals"}, {"target": call_signals(entry, frame, params, most)}
        settings: Mapping[str, Any] = arguments["settings"]
        session = Session(frame, float(settings["cash"]), rules(settings), evaluator(arguments))
        session.run(configure(entry, params, session), surroundings, report)
    kept.clear()
    columns = {name: session.commands[:, number].copy() for number, name in enumerate(o.COLUMNS)}
    return {"kind": "orders"}, columns


def stream_strategy(
    arguments: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Loads one strategy and returns the handler that decides on one bar a message. The entry of a stream.

    The process never holds a bar that it was not told yet. A class stays pinned: one process is one stream.
    A file with `signals` is executed anew for each bar, because a whole run executes it once too: chance,
    clocks and globals are as in a whole run over the bars so far.

    Args:
        arguments: `source`, `params`, `seed`, `features` as in `run_strategy`; no settings, because the
            account is told with each bar. `start_us`: open of the first bar where `bars` is empty.
        tables: `bars`: what closed before the stream begins, for windows to look back on; may be empty.

    Returns:
        A function that takes and returns the messages of `engine/live.py`.

    Raises:
        StrategyFault: as in `run_strategy`.
    """
    history = tables["bars"]
    seed, params = int(arguments.get("seed", 0)), arguments.get("params", {})
    start = EPOCH + timedelta(microseconds=int(arguments.get("start_us", 0)))
    code = compile(str(arguments["source"]), FILENAME, "exec", dont_inherit=True)
    surroundings = Surroundings(seed, history["time"][0] if history.height else start)
    session = LiveSession(history, evaluator(arguments), surroundings)
    surroundings.__enter__()  # for as long as the stream lives
    entry = find_entry(load(code))
    if isinstance(entry, type):
        return session.answers_of(configure(entry, params, session))
    surroundings.__exit__(None, None, None)
    if isinstance(entry, Event):
        raise StrategyFault(
            "not_live", "a compiled on_bar is not offered bar by bar yet", "write it as a class for that"
        )
    if isinstance(entry, Rule):  # it has no state, so there is no need to execute the file anew
        evaluate, rule = evaluator(arguments), entry
        return session.targets_of(lambda frame: float(call_rule(rule, frame, params, evaluate)[-1]))

    def decide(frame: pl.DataFrame) -> float:
        with Surroundings(seed, frame["time"][0]):
            function = cast(Callable[..., Any], find_entry(load(code)))
            return float(call_signals(function, frame, params)[-1])

    return session.targets_of(decide)


def evaluator(arguments: Mapping[str, Any]) -> Evaluate:
    """Returns the function that computes features, from the module that the job names."""
    return importlib.import_module(str(arguments.get("features", FEATURES))).evaluate


def rules(settings: Mapping[str, Any]) -> Floats:
    """Returns the kernel's rules of a run's settings; those that are absent have their defaults."""
    return kernel.make_rules(
        commission=float(settings.get("commission_bps", 0.0)) / 10_000.0,
        slippage=float(settings.get("slippage_bps", 0.0)) / 10_000.0,
        whole=settings.get("lots") == "whole",
        at_close=settings.get("fill") == "close",
        per_unit=float(settings.get("commission_per_unit", 0.0)),
        commission_min=float(settings.get("commission_min", 0.0)),
        spread=float(settings.get("spread_bps", 0.0)) / 10_000.0,
        borrow=float(settings.get("borrow_bps_annual", 0.0)) / 10_000.0,
        margin=float(settings.get("margin", 1.0)),
        volume_cap=settings.get("volume_cap"),
        settlement_days=int(settings.get("settlement_days", 0)),
        next_bar=settings.get("same_bar") == "next_bar",
    )


def load(source: str | CodeType, base: type = Strategy) -> dict[str, Any]:
    """Executes the user's file, or what it compiled to, in a fresh namespace in which `Strategy` is defined.

    Raises:
        SyntaxError: the file is not Python.
    """
    code = compile(source, FILENAME, "exec", dont_inherit=True) if isinstance(source, str) else source
    guarded = dict(vars(builtins))
    guarded["__import__"] = _import
    namespace: dict[str, Any] = {"__name__": "strategy", "__builtins__": guarded, "Strategy": base}
    exec(code, namespace)  # noqa: S102  # this is the sandbox: running the stranger's code is its purpose
    return namespace


def find_entry(namespace: Mapping[str, Any]) -> Callable[..., Any] | type[Strategy] | Rule | Event:
    """Returns the `signals` function, the rule, or the one class that extends `Strategy` and is not extended.

    Raises:
        StrategyFault: there is none (`no_strategy`), or more than one (`several_strategies`), or the rule
            does not keep its form (`invalid_rule`).
    """
    classes = [
        value
        for value in dict.fromkeys(v for v in namespace.values() if isinstance(v, type))
        if issubclass(value, Strategy) and value.__module__ == "strategy"
    ]
    leaves = [
        cls for cls in classes if not any(other is not cls and issubclass(other, cls) for other in classes)
    ]
    signals, rule, event = namespace.get("signals"), find_rule(namespace), find_event(namespace)
    entries: list[Any] = [*leaves, *([signals] if callable(signals) else []), *filter(None, [rule, event])]
    if not entries:
        half = {"rule": "FEATURES", "FEATURES": "rule"}
        for there, missing in half.items():
            if there in namespace:
                raise StrategyFault(
                    "no_strategy",
                    f"the file defines {there} without {missing}",
                    'write FEATURES = ("sma({fast})", ...) and def rule(fast_sma, ..., *, fast: int = 20)',
                )
        raise StrategyFault(
            "no_strategy",
            "the file defines neither signals(bars), nor a rule, nor a class that extends Strategy",
            "define one of them: strategy_get_api shows each",
        )
    if len(entries) > 1:
        names = ", ".join(
            "rule" if entry is rule else "on_bar" if entry is event else entry.__name__ for entry in entries
        )
        raise StrategyFault(
            "several_strategies", f"the file defines {len(entries)} strategies: {names}", "keep one of them"
        )
    return entries[0]


def call_signals(
    function: Callable[..., Any], frame: pl.DataFrame, params: Mapping[str, Any], exposure_max: float = 1.0
) -> Floats:
    """Returns the target exposures of a `signals` function, one a bar; null becomes NaN.

    Raises:
        StrategyFault: a wrong type, length or value.
    """
    declared, takes_any = function_parameters(function)
    result = function(frame, **bind(declared, params, takes_any=takes_any))
    if isinstance(result, pl.Series):
        if not (result.dtype.is_numeric() or isinstance(result.dtype, pl.Boolean | pl.Null)):
            raise _bad_signals(f"a series of {result.dtype}")
        values = result.cast(pl.Float64).to_numpy()
    elif isinstance(result, np.ndarray):
        array = cast(NDArray[Any], result)
        if array.dtype.kind not in "biuf":
            raise _bad_signals(f"an array of {array.dtype}")
        values = np.ma.filled(array.astype(np.float64), np.nan)  # what is masked is as good as null
    else:
        raise _bad_signals(f"a {type(result).__name__}")
    values = np.array(values, dtype=np.float64)
    if values.shape != (frame.height,):
        raise StrategyFault(
            "signals_shape",
            f"signals returned shape {values.shape} for {frame.height} bars",
            "return one target exposure for each bar",
        )
    outside = ~(np.isnan(values) | (np.abs(values) <= exposure_max))
    if outside.any():
        bar = int(outside.argmax())
        raise StrategyFault(
            "target_out_of_range",
            f"signals returned {values[bar]} on bar {bar}, outside -{exposure_max:g} … {exposure_max:g}",
            "return a fraction of equity; NaN keeps the last target",
        )
    return values


def call_rule(rule: Rule, frame: pl.DataFrame, params: Mapping[str, Any], evaluate: Evaluate) -> Floats:
    """Returns the target exposures of a rule, one a bar; NaN where a feature is NaN.

    Raises:
        StrategyFault: a wrong parameter or feature, a rule that cannot be compiled, a value out of range.
    """
    features = [feature_values(evaluate, expression, frame) for expression in rule.expressions(params)]
    return rule.targets(features, params, overwrite=True)


def warm_up() -> None:
    """Compiles the kernel (or loads it from its cache) before the first strategy needs it.

    Starts no threads, so that it may run in a process that forks.
    """
    times = np.arange(3, dtype=np.int64)
    limits, account = kernel.make_rules(), np.zeros(kernel.ACCOUNT_SIZE)
    account[kernel.CASH] = 1.0
    book, fills = np.empty((o.WORKING_MAX, kernel.BOOK_SIZE)), np.empty((3, len(o.FILL_COLUMNS)))
    states = np.zeros(1, dtype=np.int64)
    command = np.full(len(o.COLUMNS), np.nan)
    command[[o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE]] = 0, o.TARGET, 0, 1, 0, o.GTC
    kernel.begin(times[0], times[0], 1.0, 0.0, 1.0, limits, account)
    kernel.submit(0, 0, command, 1.0, times, limits, account, book, states)
    kernel.finish(0, 1.0, limits, account, book, fills, states)
    kernel.match(1, 1.0, 1.0, 1.0, times, limits, account, book, fills, states)
    columns: dict[str, Floats] = dict.fromkeys(COLUMNS, np.ones(3))
    cells = step.Cells(columns, times, np.empty(0), limits, 1.0)
    for play in (step.before, step.after, step.enter):
        play(0, 0, 0, cells.address)
    prepare()


def _bad_signals(what: str) -> StrategyFault:
    return StrategyFault(
        "signals_type", f"signals returned {what}", "return a polars.Series or numpy.ndarray of numbers"
    )


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002  # the signature of __import__
    locals: Mapping[str, object] | None = None,  # noqa: A002  # the signature of __import__
    fromlist: tuple[str, ...] = (),
    level: int = 0,
) -> Any:
    if level or not may_import(name):
        raise StrategyFault(
            "import_unavailable",
            f"line {sys._getframe(1).f_lineno}: {name!r:.60} is not there for strategies",  # pyright: ignore[reportPrivateUsage]  # the documented way to the caller's line
            "use numpy, polars, math, statistics, datetime or neural_trader_tools.features",
        )
    return builtins.__import__(name, globals, locals, fromlist, level)
