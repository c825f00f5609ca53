"""Bayesian choice of combinations: a tree-structured Parzen estimator (optuna, the extra `bayesian`).

Combinations are asked for in batches of fixed size and told in order, so a sweep is the same however many
workers it has; one that is resumed is told what it found before and goes on as if it had never stopped.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from neural_trader_governance.errors import ConfigurationError
from neural_trader_tools.backtest.sweeps.space import Axis, Space, Value

BATCH: Final = 8


class Bayesian:
    """Asks for combinations, batch after batch, learning from their objectives.

    Args:
        space: What may be chosen.

    Raises:
        ConfigurationError: `bayesian_missing`: optuna is not installed.
    """

    def __init__(self, space: Space) -> None:
        try:
            import optuna
        except ImportError:
            raise ConfigurationError(
                "bayesian_missing",
                "method=bayesian needs optuna, which is not installed",
                "pip install 'neural-trader[bayesian]', or use method=random",
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._optuna: Any = optuna
        self._study: Any = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=space.seed % 2**32)
        )
        self._distributions = {axis.name: self._distribution(axis) for axis in space.axes}
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[dict[str, Value]]:
        """Returns the next combinations; those before must have been told."""
        self._asked = [self._study.ask(self._distributions) for _ in range(count)]
        return [
            {axis.name: self._value(axis, trial.params[axis.name]) for axis in self._space.axes}
            for trial in self._asked
        ]

    def tell(self, objectives: Sequence[float | None]) -> None:
        """Tells what the combinations of the last `ask` came to, in order; None: failed or undefined."""
        state = self._optuna.trial.TrialState
        for trial, value in zip(self._asked, objectives, strict=True):
            if value is None or not math.isfinite(value):
                self._study.tell(trial, state=state.FAIL)
            else:
                self._study.tell(trial, value)
        self._asked = []

    def _distribution(self, axis: Axis) -> Any:
        distributions = self._optuna.distributions
        if not axis.values:
            return distributions.FloatDistribution(axis.low, axis.high)
        if isinstance(axis.values[0], bool | str):
            return distributions.CategoricalDistribution(list(axis.values))
        return distributions.IntDistribution(0, len(axis.values) - 1)  # by place: values have an order

    def _value(self, axis: Axis, chosen: Any) -> Value:
        if axis.values and not isinstance(axis.values[0], bool | str):
            return axis.values[int(chosen)]
        return chosen
