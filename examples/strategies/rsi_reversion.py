"""Buys what fell too fast, sells when it has recovered, and caps the loss of each trade."""

from neural_trader_tools.engine import Strategy
from neural_trader_tools.engine.strategy import Bar


class RsiReversion(Strategy):
    low: float = 30.0
    high: float = 55.0
    fraction: float = 0.95
    loss: float = 0.08

    def on_start(self):
        self.feature("rsi(14)")

    def on_bar(self, bar: Bar):
        rsi = self.feature("rsi(14)")[-1]
        if rsi != rsi:  # NaN: still warming up
            return
        if self.position.quantity == 0 and rsi < self.low:
            self.buy(fraction=self.fraction, stop_loss=bar.close * (1 - self.loss))
        elif self.position.quantity > 0 and rsi > self.high:
            self.close()
