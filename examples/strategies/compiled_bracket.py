"""A limit order a little below the market, with a stop-loss and a take-profit: compiled, for many bars.

A function `on_bar` at the top of a file is compiled to machine code and played in one loop with the engine: a
million bars take milliseconds. It means what the same class in Python would mean, order by order.
"""

from typing import Any

from neural_trader_tools.engine.desk import Bars, Desk, buy, cancel, waits

FEATURES = {"atr": "atr({window})"}
STATE = {"entry": -1}  # what is kept between bars, with its first value


def on_bar(
    bars: Bars, features: Any, state: Any, desk: Desk, *, window: int = 14, width: float = 0.5, rest: int = 5
) -> None:
    atr = features.atr[-1]
    if desk.position != 0.0 or desk.number % rest != 0 or atr != atr:  # NaN while it warms up
        return
    if waits(desk, state.entry):
        cancel(desk, state.entry)
    limit = bars.close[-1] - width * atr
    state.entry = buy(desk, fraction=0.5, limit=limit, take_profit=limit + 2 * atr, stop_loss=limit - atr)
