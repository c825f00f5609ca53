"""The engine's own failure: it runs inside a sandbox and may import nothing of ours.

Outside, `backtest` turns it into a `StrategyError` with the same three parts.
"""

import difflib
from collections.abc import Iterable
from typing import Final

CODES: Final = frozenset(
    {
        "feature_shape", "import_unavailable", "invalid_feature", "invalid_order", "invalid_parameter",
        "invalid_rule", "missing_parameter", "no_bar_yet", "no_on_bar", "no_strategy", "not_live",
        "rule_not_compiled", "several_strategies", "signals_shape", "signals_type", "target_out_of_range",
        "too_many_orders", "unknown_parameter", "unknown_symbol", "unsupported_order",
    }
)  # fmt: skip
"""Every code that the engine raises in the sandbox; a guest may raise a fault too, but under no other one."""


class StrategyFault(Exception):  # noqa: N818  # a fault is the sandbox's word for what a guest raises
    """Strategy code asked for something that cannot be done.

    Args:
        code: Stable snake_case identifier.
        what: What happened, with the offending value and the bound.
        next_step: What to do about it, as an imperative.
    """

    def __init__(self, code: str, what: str, next_step: str) -> None:
        self.code = code
        self.what = what
        self.next_step = next_step
        super().__init__(f"{code}: {what}; {next_step}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `use one of …`, or `did you mean …?` where one known word is close to `word`."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of: {', '.join(known)}" if known else "there are none to choose from"
