"""Verdicts on ticks: what becomes of one, why, and the bounds that decide it."""

from typing import Literal

import msgspec

from neural_trader_tools.market.feed.ticks import SECOND_NS

Action = Literal["pass", "flag", "drop", "quarantine"]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a tick, and why."""

    action: Action
    reasons: tuple[str, ...] = ()


class RuleLimits(msgspec.Struct, frozen=True, gc=False):
    """The bounds of the rules; a feed of slow symbols wants a larger gap, crypto a larger jump."""

    jump_per_s_max: float = 0.10
    jump_span_s_max: float = 5.0
    """Silence longer than this allows no larger jump."""
    jumps_confirm: int = 3
    volume_sigma_max: float = 3.0
    volume_window: int = 500
    """About so many of the latest sizes make up the mean and the deviation."""
    volume_sizes_min: int = 30
    gap_ns: int = 5 * SECOND_NS
    stale_ns: int = 5 * SECOND_NS
    future_ns: int = 5 * SECOND_NS
    """How far a vendor's clock may run ahead of ours."""
    symbols_max: int = 50_000
    remembered_max: int = 400_000
    """Ticks whose repeats are recognised, over all symbols: about 60 MB."""


PASS = Verdict("pass")
DUPLICATE = Verdict("drop", ("duplicate",))


def quarantined_for(reason: str) -> Verdict:
    """Returns the verdict on a tick that is used nowhere."""
    return Verdict("quarantine", (reason,))


def flagged_too(verdict: Verdict, reason: str) -> Verdict:
    """Returns a verdict with one more reason, where the tick counts."""
    if verdict.action == "quarantine":
        return verdict
    return Verdict("flag", (*verdict.reasons, reason))
