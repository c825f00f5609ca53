"""The outline: what can be said of a strategy's source by reading it, without running a line."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from neural_trader_governance.errors import InputError
from neural_trader_tools.engine.faults import did_you_mean
from neural_trader_tools.engine.parameters import KINDS
from neural_trader_tools.strategies.registry import parse_source
from neural_trader_tools.strategies.rules import assigns_features, find_events, find_rules
from neural_trader_tools.strategies.suspicions import Suspicion, find_suspicions


@dataclass(frozen=True, slots=True)
class Outline:
    """What a file defines.

    Attributes:
        signals: Line of `def signals`, where there is one.
        weights: Line of `def weights`, which decides on many symbols at once.
        rule: Line of `def rule`, where it is the strategy: `FEATURES` is assigned too; or of a compiled
            `def on_bar`.
        classes: Names and lines of the classes that extend `Strategy` directly, in order.
        has_classes: Whether there is any class; one may extend `Strategy` through another.
        parameters: Names of its parameters; None where reading alone cannot tell.
        imports: Modules it imports, with their lines.
        entry_line: Line of `def signals` or `def weights`, of the rule, or of the first `on_bar`.
        suspicions: Lines that may look into the future, the worst first.
        has_on_bars: Whether a class defines `on_bars`, which decides on many symbols, and none `on_bar`.
        kinds: The kind of each parameter that states one: int, float, bool or str.
        defaults: The default of each parameter that has a literal one.
    """

    signals: int | None
    weights: int | None
    rule: int | None
    classes: tuple[tuple[str, int], ...]
    has_classes: bool
    parameters: frozenset[str] | None
    imports: tuple[tuple[str, int], ...]
    entry_line: int | None
    suspicions: tuple[Suspicion, ...]
    has_on_bars: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_outline(source: str) -> Outline:
    """Reads a source.

    Raises:
        StrategyError: it is not Python (`syntax_error`).
    """
    tree = parse_source(source)
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in ("signals", "weights")
    ]
    lines = {node.name: node.lineno for node in functions}
    defined = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    strategies = [node for node in defined if any(_name(base) == "Strategy" for base in node.bases)]
    rules = (find_rules(tree) if assigns_features(tree) else []) or find_events(tree)
    parameters: frozenset[str] | None = None
    kinds: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    if rules and not functions and not defined:
        parameters = frozenset(argument.arg for argument in rules[-1].args.kwonlyargs)
        kinds, defaults = _kinds(rules[-1].args), _literals(_defaults(rules[-1].args))
    elif functions and not strategies and not rules:
        arguments = functions[-1].args
        if arguments.kwarg is None:
            named = [*arguments.posonlyargs, *arguments.args][1:] + arguments.kwonlyargs
            parameters = frozenset(argument.arg for argument in named)
            kinds, defaults = _kinds(arguments), _literals(_defaults(arguments))
    elif len(defined) == 1 and len(strategies) == 1 and len(strategies[0].bases) == 1 and not functions:
        stated = {
            node.target.id: node
            for node in strategies[0].body
            if isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id[0] != "_"
        }
        parameters = frozenset(stated)
        kinds = {name: kind for name, node in stated.items() if (kind := _name(node.annotation)) in KINDS}
        defaults = _literals({name: node.value for name, node in stated.items()})
    imports: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append(("." * node.level + (node.module or ""), node.lineno))
    methods = [node for cls in defined for node in cls.body if isinstance(node, ast.FunctionDef)]
    deciding = (
        functions[-1:] or rules[-1:] or [node for node in methods if node.name in ("on_bar", "on_bars")]
    )
    entry = deciding[0] if deciding else None
    return Outline(
        signals=lines.get("signals"),
        weights=lines.get("weights"),
        rule=rules[-1].lineno if rules else None,
        classes=tuple((node.name, node.lineno) for node in strategies),
        has_classes=bool(defined),
        parameters=parameters,
        imports=tuple(sorted(imports, key=lambda item: item[1])),
        entry_line=entry.lineno if entry is not None else None,
        suspicions=find_suspicions(tree),
        has_on_bars={node.name for node in methods} & {"on_bar", "on_bars"} == {"on_bars"},
        kinds=kinds,
        defaults=defaults,
    )


def is_portfolio(source: str) -> bool:
    """Returns whether a source decides on many symbols at once; see `portfolio_kind`.

    Raises:
        StrategyError: it is not Python.
    """
    return portfolio_kind(source) is not None


def portfolio_kind(source: str) -> Literal["weights", "orders"] | None:
    """Returns how a source decides on many symbols at once: it defines `weights`, or `on_bars` in a class.

    None where it decides on one symbol, or where it defines a strategy of each kind.

    Raises:
        StrategyError: it is not Python.
    """
    outline = read_outline(source)
    if outline.signals is not None or outline.rule is not None:
        return None
    if outline.weights is not None:
        return None if outline.has_classes else "weights"
    return "orders" if outline.has_on_bars else None


def check_parameters(source: str, params: Mapping[str, Any]) -> None:
    """Checks the names of given parameters as far as reading can tell; the sandbox checks the rest.

    Raises:
        InputError: `unknown_parameter`.
        StrategyError: the source is not Python.
    """
    declared = read_outline(source).parameters
    if declared is None:
        return
    for name in params:
        if name not in declared:
            raise InputError(
                "unknown_parameter",
                f"the strategy has no parameter {name!r:.60}",
                did_you_mean(name, declared) if declared else f"leave {name:.60} out: it takes no parameters",
            )


def _kinds(arguments: ast.arguments) -> dict[str, str]:
    """Returns the kinds that a function states for its arguments, by annotation or else by default."""
    defaults = _defaults(arguments)
    found: dict[str, str] = {}
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        default = defaults[argument.arg]
        if argument.annotation is not None:
            kind = _name(argument.annotation)
        else:
            kind = type(default.value).__name__ if isinstance(default, ast.Constant) else ""
        if kind in KINDS:
            found[argument.arg] = kind
    return found


def _defaults(arguments: ast.arguments) -> dict[str, ast.expr | None]:
    """Returns the default of every argument, None where it has none."""
    placed = [*arguments.posonlyargs, *arguments.args]
    found: dict[str, ast.expr | None] = {argument.arg: None for argument in placed}
    found.update(zip(list(found)[len(placed) - len(arguments.defaults) :], arguments.defaults, strict=True))
    found.update(
        {
            argument.arg: given
            for argument, given in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        }
    )
    return found


def _literals(values: Mapping[str, ast.expr | None]) -> dict[str, Any]:
    """Returns the values that are written out as they are."""
    found: dict[str, Any] = {}
    for name, node in values.items():
        if node is not None:
            with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                found[name] = ast.literal_eval(node)
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
