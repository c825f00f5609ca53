"""Rules as they are read: what is wrong with `FEATURES` and `def rule`, before any of it runs.

`engine/rule.py` checks the same in the sandbox, where the values are known; reading finds all of it at once.
"""

import ast
import string
from collections.abc import Callable, Iterator

from neural_trader_tools.engine.faults import did_you_mean

FORM = "write it like: def rule(fast_sma, slow_sma, *, fast: int = 20, slow: int = 50)"
Finding = tuple[int, str]
"""A line and what is wrong with it."""


def find_rules(tree: ast.Module) -> list[ast.FunctionDef]:
    """Returns the functions named `rule` at the top of a file."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "rule"]


def find_events(tree: ast.Module) -> list[ast.FunctionDef]:
    """Returns the functions named `on_bar` at the top of a file: compiled event strategies."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "on_bar"]


def assigns_features(tree: ast.Module) -> bool:
    """Whether a file assigns `FEATURES` at its top."""
    return _features(tree) is not None


def read_rule(tree: ast.Module, feature_problem: Callable[[str], str | None]) -> Iterator[Finding]:
    """Yields what is wrong with the form of a rule; nothing where a file has none.

    Args:
        tree: The file.
        feature_problem: Returns what is wrong with a feature expression, or None.
    """
    functions, features = find_rules(tree), _features(tree)
    if not functions or features is None:
        return
    rule = functions[-1]
    values = [*rule.args.posonlyargs, *rule.args.args]
    defaults = dict(
        zip([argument.arg for argument in rule.args.kwonlyargs], rule.args.kw_defaults, strict=True)
    )
    for argument in values[len(values) - len(rule.args.defaults) :]:
        yield argument.lineno, f"{argument.arg} has a default: a parameter stands after *; {FORM}"
    if rule.args.vararg or rule.args.kwarg:
        yield rule.lineno, f"rule takes any number of arguments; {FORM}"
    for node in ast.walk(rule):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield node.lineno, "a rule keeps no state; decide by its arguments, or write a class"
        elif isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
            yield node.lineno, "a rule is no generator; return one number"
        elif isinstance(node, ast.Attribute) and node.attr == "random":
            yield node.lineno, "a rule draws no chance; decide by its arguments"
    if not isinstance(features, ast.Tuple | ast.List):
        if isinstance(features, ast.Constant):
            yield features.lineno, 'FEATURES is no tuple; write FEATURES = ("sma({fast})",)'
        return
    texts = [node for node in features.elts if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if len(texts) < len(features.elts):
        return  # computed: the sandbox sees the values
    if len(values) != len(texts) and not rule.args.vararg:
        names = ", ".join(argument.arg for argument in values)
        yield (
            rule.lineno,
            (
                f"rule takes {len(values)} values ({names}) and FEATURES gives {len(texts)}; "
                "give one positional argument to each feature, in order"
            ),
        )
    for text in texts:
        yield from _of_expression(str(text.value), text.lineno, defaults, feature_problem)


def _of_expression(
    text: str, line: int, defaults: dict[str, ast.expr | None], feature_problem: Callable[[str], str | None]
) -> Iterator[Finding]:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        yield line, f"{text!r:.60}: {error}; write a parameter in braces: 'sma({{fast}})'"
        return
    unknown = [name for name in names if name not in defaults]
    for name in unknown:
        instead = did_you_mean(name, defaults) if defaults else f"add it: *, {name}: int = 20"
        yield line, f"{text!r:.60} uses {{{name}}}, which is no parameter of rule; {instead}"
    given = {name: value.value for name, value in defaults.items() if isinstance(value, ast.Constant)}
    if unknown or any(name not in given for name in names):
        return
    if problem := feature_problem(text.format(**given)):
        yield line, problem


def _features(tree: ast.Module) -> ast.expr | None:
    """Returns the value that `FEATURES` is given last."""
    found: ast.expr | None = None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if any(isinstance(target, ast.Name) and target.id == "FEATURES" for target in targets):
            found = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return found
