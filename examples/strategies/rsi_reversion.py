"""Mean reversion: buys what fell too fast, sells when it has recovered, and caps the loss of each trade.

Idea: whoever has to sell in a hurry pushes a price below where it belongs for a few days.
Source: Connors & Alvarez, Short Term Trading Strategies That Work (2009), who use an RSI of 2 bars; the RSI
itself is Wilder, New Concepts in Technical Trading Systems (1978).

Form: a class. Parameters: window (of the RSI, bars), low (buy below), high (sell above), fraction (of
equity), loss (stop below the entry's close, a fraction). Needs one symbol; several run side by side.

Out of sample (^GSPC from 2011; window 2, low 10 was the best of 9 before; 5 + 5 bps): Sharpe ratio -0.21
after 0.37 in sample, -1.9% a year, drawdown 20.7%, deflated Sharpe ratio 0.07; holding the same: 0.65, 8.8%,
19.8%; docs/examples.md.
"""

from neural_trader_tools.engine import Strategy
from neural_trader_tools.engine.strategy import Bar


class RsiReversion(Strategy):
    window: int = 14
    low: float = 30.0
    high: float = 55.0
    fraction: float = 0.95
    loss: float = 0.08

    def on_start(self):
        self.feature(f"rsi({self.window})")

    def on_bar(self, bar: Bar):
        rsi = self.feature(f"rsi({self.window})")[-1]
        if rsi != rsi:  # NaN: still warming up
            return
        if self.position.quantity == 0 and rsi < self.low:
            self.buy(fraction=self.fraction, stop_loss=bar.close * (1 - self.loss))
        elif self.position.quantity > 0 and rsi > self.high:
            self.close()
