# line: 6
import numpy as np


def signals(bars):
    close = bars["close"].to_numpy(); ahead = np.append(close[5:], [close[-1]] * 5) / close; order = np.argsort(ahead)
    target = np.zeros(len(close))
    target[order[-len(close) // 4 :]] = 1.0
    return target
