"""Breakout: buys above the highest high of the past weeks, with a stop-loss and a take-profit attached.

Idea: a price that nobody has paid for months tells of news that most have not acted upon yet. The entry is a
resting stop order, so that it fills on the way up; its bracket is set in average true ranges, so that a wild
stock gets more room than a calm one.
Source: Donchian's channel, as the Turtles traded it: Faith, Way of the Turtle (2007).

Form: a class with bracket orders. Parameters: window (bars of the channel), risk and reward (distances of the
stop-loss and the take-profit, in ATR(14)), fraction (of equity). Needs one symbol; several run side by side.

Out of sample (AAPL, GOOG, IBM, MSFT from 2009; window 100, reward 6 was the best of 6 before; 5 + 5 bps):
Sharpe ratio 0.97 after 0.55 in sample, 7.6% a year, drawdown 9.7%, deflated Sharpe ratio 0.85; holding the
same: 1.20, 27.2%, 21.2%; docs/examples.md.
"""

from neural_trader_tools.engine import Strategy
from neural_trader_tools.engine.strategy import Bar


class Breakout(Strategy):
    window: int = 55
    risk: float = 2.0
    reward: float = 6.0
    fraction: float = 0.95

    def on_start(self):
        self.feature("atr(14)")

    def on_bar(self, bar: Bar):
        atr = self.feature("atr(14)")[-1]
        if len(self.bars.high) < self.window or atr != atr or self.position.quantity != 0:
            return
        top = self.bars.high[-self.window :].max()
        if top - self.risk * atr <= 0:
            return
        self.buy(
            fraction=self.fraction,
            stop=top,
            stop_loss=top - self.risk * atr,
            take_profit=top + self.reward * atr,
            time_in_force="day",  # the channel moves: a new order tomorrow
        )
