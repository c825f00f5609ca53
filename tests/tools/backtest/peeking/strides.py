# line: 6
import numpy as np

class Strides(Strategy):
    def on_bar(self, bar):
        ahead = np.lib.stride_tricks.as_strided(self.bars.close, shape=(bar.number + 2,))[-1]
        self.target(1.0 if ahead > bar.close else 0.0)
