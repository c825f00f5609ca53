"""The digest: one number over everything that went into a backtest and everything that came out.

Two runs with the same digest had the same prices, code, parameters, settings, engine and seed, and made
the same fills, trades and equity, bit for bit. Floats enter as raw little-endian bytes, so it is the same
on every machine of one architecture.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.engine.orders import ENGINE_VERSION


def run_digest(
    request: BacktestRequest, prices: Sequence[Prices], replay: Replay, engine: str = ENGINE_VERSION
) -> str:
    """Returns the digest of a finished run, 64 hex digits; another `engine` says what that one would give."""
    hasher = hashlib.sha256()
    hasher.update(
        _sha256_json({**_inputs(request, engine), "data": [price.digest() for price in prices]}).encode()
    )
    for symbol in replay.symbols:
        for array in (symbol.fills, symbol.trades, symbol.equity):
            hasher.update(len(array).to_bytes(8, "little"))
            hasher.update(_raw(array))
    hasher.update(_raw(replay.equity))
    return hasher.hexdigest()


def _raw(array: NDArray[np.float64]) -> memoryview:
    """Returns the raw little-endian floats of an array, row by row; not copied, as a rule."""
    return np.ascontiguousarray(array, dtype="<f8").data


def _inputs(request: BacktestRequest, engine: str) -> dict[str, object]:
    return {
        "engine": engine,
        "source": hashlib.sha256(request.source.encode()).hexdigest(),
        "symbols": list(request.symbols),
        "interval": request.interval,
        "params": request.params,
        "settings": request.settings.for_digest(),
        "seed": request.seed,
    }


def _sha256_json(document: dict[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
