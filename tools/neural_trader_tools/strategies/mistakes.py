"""Mistakes: what reading a strategy's source finds, each with its line, before any of it runs."""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from neural_trader_tools.engine.faults import did_you_mean
from neural_trader_tools.engine.imports import MODULES, may_import
from neural_trader_tools.strategies.registry import parse_source
from neural_trader_tools.strategies.rules import assigns_features, find_events, find_rules, read_rule

ORDER_WORDS: Final = (
    "quantity", "fraction", "limit", "stop", "trail", "take_profit", "stop_loss", "trail_loss",
    "trail_by", "oco", "time_in_force",
)  # fmt: skip
COLUMNS: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume",
)  # features by their plain names, see engine/feature.py
CALLED: Final = ("on_start", "on_bar", "on_bars", "on_fill")
INSTEAD: Final = {
    "pandas": "use polars",
    "talib": "use neural_trader_tools.features",
    "pandas_ta": "use neural_trader_tools.features",
    "scipy": "use numpy",
    "sklearn": "use numpy",
    "time": "use bar.time",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `ends` says that the file cannot run at all because of it."""

    line: int
    code: str
    message: str
    ends: bool = True


def find_mistakes(source: str) -> list[Mistake]:
    """Returns all that reading finds, by line.

    Raises:
        StrategyError: the source is not Python (`syntax_error`).
    """
    tree = parse_source(source)
    found = [*_imports(tree), *_entries(tree), *_clocks(tree)]
    for line, message in read_rule(tree, _feature_problem):
        found.append(Mistake(line, "invalid_rule", message))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found += _of_class(node)
    return sorted(found, key=lambda mistake: mistake.line)


def _imports(tree: ast.Module) -> Iterator[Mistake]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        for name in names:
            if not may_import(name):
                root = name.partition(".")[0]
                near = difflib.get_close_matches(root, MODULES, n=1, cutoff=0.75)
                instead = INSTEAD.get(root) or (f"did you mean {near[0]!r}?" if near else "")
                yield Mistake(
                    node.lineno,
                    "import_unavailable",
                    f"{name} is not there for strategies; "
                    + (instead or "use numpy, polars, math, statistics or datetime"),
                )


def _entries(tree: ast.Module) -> Iterator[Mistake]:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    signals = [node for node in functions if node.name == "signals"]
    alone = [node for node in functions if node.name == "weights"] if not signals and not classes else []
    strategies = [node for node in classes if "Strategy" in _bases(node)]
    rules = find_rules(tree)
    has_rule = (bool(rules) and assigns_features(tree)) or bool(find_events(tree))
    if (signals and strategies) or (has_rule and (signals or strategies)):
        kinds = [*(["signals"] * bool(signals)), *(["a Strategy class"] * bool(strategies))]
        message = f"the file defines {' and '.join([*kinds, *(['a rule'] * has_rule)])}; keep one"
        yield Mistake([*strategies, *signals][0].lineno, "several_strategies", message)
    elif not signals and not classes and not has_rule and (rules or assigns_features(tree)):
        there, missing = ("rule", "FEATURES") if rules else ("FEATURES", "def rule")
        message = f"{there} needs {missing} beside it; see strategy_get_api, topic rule"
        yield Mistake(rules[0].lineno if rules else 1, "no_strategy", message)
    elif not signals and not classes and not has_rule and not alone and not _assigns_signals(tree):
        near = [node for node in functions if difflib.get_close_matches(node.name, ["signals"], cutoff=0.7)]
        yield Mistake(
            near[0].lineno if near else 1,
            "no_strategy",
            f"{near[0].name} is not called by anything; did you mean 'signals'?"
            if near
            else "define signals(bars), weights(bars), a rule or a class that extends Strategy;"
            " see strategy_get_api",
        )
    for node in classes:
        for base in _bases(node):
            known = {"Strategy", *(other.name for other in classes)}
            if base not in known and difflib.get_close_matches(base, ["Strategy"], cutoff=0.7):
                message = f"{node.name} extends {base}; did you mean 'Strategy'?"
                yield Mistake(node.lineno, "no_strategy", message)
    for node in [*signals, *alone]:
        arguments = node.args
        if isinstance(node, ast.AsyncFunctionDef):
            yield Mistake(node.lineno, "signals_type", f"{node.name} is async; write def {node.name}(bars)")
        if not (arguments.posonlyargs or arguments.args or arguments.vararg):
            message = f"{node.name} takes no bars; write def {node.name}(bars)"
            yield Mistake(node.lineno, "signals_type", message)


def _of_class(cls: ast.ClassDef) -> Iterator[Mistake]:
    methods = {node.name: node.lineno for node in cls.body if isinstance(node, ast.FunctionDef)}
    if "Strategy" in _bases(cls):
        for name, line in methods.items():
            near = difflib.get_close_matches(name, CALLED, n=1, cutoff=0.75)
            if name not in CALLED and near and near[0] not in methods:
                message = f"{name} is never called; did you mean {near[0]!r}?"
                yield Mistake(line, "unknown_method", message, ends=False)
    place = 1 if "on_bars" in methods else 0  # a portfolio names the symbol first
    for node in ast.walk(cls):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "self"):
            continue
        if node.func.attr in ("buy", "sell"):
            for keyword in node.keywords:
                if (
                    keyword.arg is not None
                    and keyword.arg not in ORDER_WORDS
                    and node.func.attr not in methods
                ):
                    message = (
                        f"{node.func.attr} takes no {keyword.arg}=; {did_you_mean(keyword.arg, ORDER_WORDS)}"
                    )
                    yield Mistake(keyword.value.lineno, "invalid_order", message, ends=False)
        elif (
            node.func.attr == "feature"
            and len(node.args) > place
            and isinstance(said := node.args[place], ast.Constant)
            and (problem := _feature_problem(said.value))
        ):
            yield Mistake(node.lineno, "invalid_feature", problem, ends=False)


def _clocks(tree: ast.Module) -> Iterator[Mistake]:
    """Finds the one clock that cannot be pinned: `numpy.datetime64("now")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name == "datetime64" and node.args[0].value in ("now", "today"):
                message = f"datetime64({node.args[0].value!r}) is another time in every run; use bar.time"
                yield Mistake(node.lineno, "not_deterministic", message, ends=False)


def _feature_problem(expression: object) -> str | None:
    from neural_trader_tools.features.catalogue import parse  # it imports polars

    if not isinstance(expression, str):
        return f"feature takes text such as 'sma(20)', not {expression!r:.40}"
    if expression.strip() in COLUMNS:
        return None
    try:
        parse(expression)
    except ValueError as error:
        return str(error).partition(": ")[2]
    return None


def _assigns_signals(tree: ast.Module) -> bool:
    """True for `signals = …`, and for what reading cannot follow: names that come from elsewhere."""
    return any(isinstance(node, ast.Name) and node.id == "signals" for node in ast.walk(tree)) or any(
        isinstance(node, ast.ImportFrom) and any(a.name in ("signals", "*") for a in node.names)
        for node in tree.body
    )


def _bases(cls: ast.ClassDef) -> list[str]:
    return [
        base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
        for base in cls.bases
    ]
