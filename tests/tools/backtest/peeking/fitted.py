# line: 7
import numpy as np


def signals(bars):
    close = bars["close"].to_numpy()
    slope, start = np.polyfit(np.arange(len(close)), close, 1)
    return (close < start + slope * np.arange(len(close))).astype(float)
