"""Suspicions: lines of a source that look into the future, as far as reading can tell.

They accuse nobody: whether a strategy looks ahead is found by running it. They say which
line to look at first.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_WHOLE_COLUMN: Final = frozenset({"mean", "std", "var", "min", "max", "median", "quantile", "sum", "rank"})
_ORDERED: Final = frozenset({"argsort", "arg_sort", "sort", "sort_by", "top_k", "reverse", "flip"})
_FITTED: Final = frozenset({"polyfit", "lstsq", "fit", "linear_regression", "corrcoef"})
_RESAMPLED: Final = frozenset({"group_by_dynamic", "over", "join_asof", "upsample", "group_by", "resample"})
_INTERNAL: Final = frozenset(
    {"_desk", "_columns", "_frame", "base", "get_objects", "_getframe", "as_strided"}
)


@dataclass(frozen=True, slots=True, order=True)
class Suspicion:
    """One line: `rank` 0 almost certainly looks ahead, higher ones less so; `why` in words."""

    rank: int
    line: int
    why: str


def find_suspicions(tree: ast.AST) -> tuple[Suspicion, ...]:
    """Returns the suspicious lines of a source, the worst first."""
    found = {
        Suspicion(rank, node.lineno, why)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call | ast.Subscript | ast.Attribute)
        for rank, why in _of(node)
    }
    return tuple(sorted(found))


def _of(node: ast.Call | ast.Subscript | ast.Attribute) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Attribute):
        if node.attr in _INTERNAL:
            yield 0, f"{node.attr} reaches what on_bar is not given"
        elif node.attr in ("height", "shape"):
            yield 4, "the number of bars says how much is still to come"
        return
    if isinstance(node, ast.Subscript):
        yield from _of_subscript(node)
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _name(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    given = [*node.args, *keywords.values()]
    if name in ("shift", "roll", "diff", "pct_change") and any(map(_is_negative, given)):
        yield 0, f"{name} by a negative number reads later bars"
    if _is_true(keywords.get("center")):
        yield 0, "a centered window reads later bars"
    if name in ("backward_fill", "bfill") or any(
        isinstance(value, ast.Constant) and value.value == "backward" for value in given
    ):
        yield 0, "filling backward reads later bars"
    if name in _FITTED:
        yield 1, f"{name} fits all bars at once"
    elif name in _RESAMPLED:
        yield 1, f"{name} may give a bar the last value of its period"
    elif name in _ORDERED:
        yield 2, f"{name} orders all bars at once"
    elif name in _WHOLE_COLUMN and isinstance(node.func, ast.Attribute):
        yield 3, f"{name} is taken over all bars, unless it was given past ones only"
    elif name == "len":
        yield 4, "the number of bars says how much is still to come"


def _of_subscript(node: ast.Subscript) -> Iterator[tuple[int, str]]:
    index = node.slice
    if isinstance(index, ast.Slice):
        if index.step is not None and _is_negative(index.step):
            yield 2, "a reversed column begins with the last bar"
        elif index.lower is not None and not _is_negative(index.lower):
            yield 3, "a slice from a bar on reads later bars"
    elif isinstance(index, ast.BinOp) and isinstance(index.op, ast.Add):
        yield 1, "an index that is added to reads later bars"
    elif _is_negative(index) and not _is_current(node.value):
        yield 2, "the last value of all bars is not known on the bars before"


def _is_current(node: ast.expr) -> bool:
    """True for `self.bars.close[-1]` and `self.feature(...)[-1]`, which end with the current bar."""
    names = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return bool(names & {"bars", "feature"}) and "_desk" not in names


def _is_negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
