"""A configuration: what was tried, in the one form that every way of writing it has.

`n=2` and `n=2.0`, a default that is given, symbols in another order, a comment, a blank line or a docstring
are no other idea. Reading can be wrong about that: code may look at its own line numbers, and the order of
symbols may break a tie. So equal configurations are one trial only as long as they come to the same
(`trials.py`).
"""

import ast
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, cast

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.trials import Trial
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.parameters import Parameter, convert
from neural_trader_tools.strategies.outline import read_outline

_EXACT: Final = 2**53  # above it a float holds no more all whole numbers
_SOURCES: Final = 64


def trial_of(request: BacktestRequest, data: str, sharpe_per_bar: float | None) -> Trial:
    """Returns the trial that a run is.

    Args:
        request: What was run.
        data: Digest of the prices that it saw, see `data_digest`.
        sharpe_per_bar: What it came to; None where undefined.
    """
    tried = _text(_tried(request))
    return Trial(
        config_digest=_sha256(f"{tried}\n{request.seed}\n{request.start}\n{request.end}"),
        sharpe_per_bar=sharpe_per_bar,
        seen=_sha256(f"{tried}\n{data}")[:32],
    )


def failure_of(request: BacktestRequest, run_id: str) -> Trial:
    """Returns the trial that a run is which ended without a result: it failed, or somebody stopped it.

    Each such run is one, because code can fail where it does badly.
    """
    return Trial(f"{trial_of(request, '', None).config_digest}:{run_id}", None)


def data_digest(digests: Sequence[str]) -> str:
    """Returns one digest of several symbols' prices, in whatever order."""
    return _sha256("\n".join(sorted(digests)))


@functools.lru_cache(maxsize=_SOURCES)
def source_digest(source: str) -> str:
    """Returns the SHA-256 of a source without its comments, its layout and its docstrings."""
    try:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        text = ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text = source  # as it is: whoever writes it otherwise has another trial
    return _sha256(text)


def plain_params(source: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters in the types that the source declares, without those that are its defaults."""
    kinds, defaults = _declared(source)
    found = {name: _plain(_typed(name, kinds.get(name, ""), value)) for name, value in params.items()}
    return {name: value for name, value in found.items() if defaults.get(name) != _text(value)}


def _tried(request: BacktestRequest) -> dict[str, Any]:
    """Returns what was tried, without chance, period and whose definitions the metrics are told in."""
    return {
        "source": source_digest(request.source),
        "symbols": sorted(request.symbols),
        "interval": request.interval,
        "params": plain_params(request.source, request.params),
        "settings": _settings(request.settings),  # pyright: ignore[reportArgumentType]  # frozen, so hashable
    }


@functools.lru_cache(maxsize=_SOURCES)
def _settings(settings: Settings) -> dict[str, Any]:
    return _plain(settings.model_dump(exclude={"convention"}))


@functools.lru_cache(maxsize=_SOURCES)
def _declared(source: str) -> tuple[Mapping[str, str], dict[str, str]]:
    """Returns the kinds of a source's parameters and their defaults as text, as far as they can be read."""
    try:
        outline = read_outline(source)
    except StrategyError:
        return {}, {}
    kinds = outline.kinds
    return kinds, {
        name: _text(_plain(_typed(name, kinds.get(name, ""), value)))
        for name, value in outline.defaults.items()
    }


def _typed(name: str, kind: str, value: Any) -> Any:
    try:
        return convert(Parameter(name, kind, None), value)
    except StrategyFault:
        return value


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it, whole numbers as such however they were written."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in cast("Sequence[Any]", value)]
    return value


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return
    if isinstance(first.value.value, str):
        node.body = node.body[1:] or [ast.Pass()]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=repr)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
