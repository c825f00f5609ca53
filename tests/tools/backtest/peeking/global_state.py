# The first call fills a global that later calls read: on_start looks at what on_bar is not given.
# line: 9
import numpy as np

SEEN = {}


class Remembers(Strategy):
    def on_start(self): SEEN["close"] = np.asarray(self._desk._columns["close"])

    def on_bar(self, bar):
        rest = SEEN["close"][bar.number + 1 :]
        self.target(1.0 if len(rest) and rest[0] > bar.close else 0.0)
