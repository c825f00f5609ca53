# Honest decisions to look at, and others written over them with hindsight at the last bar.
class Forger(Strategy):
    def on_bar(self, bar):
        self.target(1.0 if bar.number % 2 else 0.5)
        desk = self._desk
        if bar.number + 1 == len(desk._columns["close"]):
            close = desk._columns["close"]
            for row in range(desk._rows - 1):
                at = int(desk._commands[row, 0])
                desk._commands[row, 3] = float(close[at + 1] > close[at])
