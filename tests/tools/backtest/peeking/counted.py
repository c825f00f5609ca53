# Long over the last 50 bars, wherever they end.
import numpy as np


def signals(bars):
    return (np.arange(bars.height) >= bars.height - 50).astype(float)
