"""A completed run in parts: real prices, the trusted engine's replay, the record that the service keeps."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.ledger import BacktestRecord, Handles
from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import equity_frame, trades_frame
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.report.sheet import Sheet
from neural_trader_tools.backtest.settings import BacktestRequest

MOMENT = datetime(2014, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def sheet_of() -> Callable[..., Sheet]:
    """Returns the sheet of a crossing of two averages over some prices, with what a caller changes."""

    def make(prices: Prices, *, fast: int = 10, slow: int = 40, others: Any = (), **changes: Any) -> Sheet:
        sums = np.concatenate([[0.0], np.cumsum(prices.close)])
        means = [(sums[slow:] - sums[slow - size : len(sums) - size]) / size for size in (fast, slow)]
        targets = np.full(len(prices), np.nan)
        targets[slow - 1 :] = means[0] > means[1]
        request = BacktestRequest(source="def signals(bars): ...", symbols=(prices.symbol,))
        request = request.model_copy(update=changes.pop("request", {}))
        cash = float(request.settings.cash)
        replay = Replay.combine([replay_symbol("signals", targets, prices, request.settings, cash)], cash)
        record = BacktestRecord(
            run_id="bt-0123456789",
            request=request,
            state="completed",
            created_time=MOMENT,
            as_of=MOMENT,
            bars=len(prices),
            digest="ab" * 32,
            metrics=compute_metrics(replay, 252.0).model_dump(),
            handles=Handles(equity="equity-0", trades="trades-0", orders="orders-0"),
        ).model_copy(update=changes)
        return Sheet.of(record, equity_frame(replay), trades_frame(replay), [prices], others)

    return make
