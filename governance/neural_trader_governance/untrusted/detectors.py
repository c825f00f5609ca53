"""Detectors: what a text's words suggest about its intent. Advice, never a boundary.

The boundary is the taint: every text from outside marks its reader, whatever a detector thinks of it.
A detector's finding goes to the log and to the person who decides whether the mark may be cleared.
"""

from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from neural_trader_governance.errors import ConfigurationError

HIGH = 0.5
"""From this score on, a finding is worth waking a person for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector thinks of one text.

    Attributes:
        detector: Which one.
        score: 0 (nothing seen) to 1 (certain); comparable within one detector only.
        labels: What was seen, such as `override` or `hidden_text`; sorted.
        spans: Where, as (start, end) in the text; empty where the detector cannot say, or where it found
            something in a decoded form of the text.
    """

    detector: str
    score: float
    labels: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def is_high(self) -> bool:
        """True where a person should look at it now."""
        return self.score >= HIGH

    def summary(self) -> dict[str, JsonValue]:
        """Returns it as an audit entry holds it: basis points instead of a float, no text."""
        return {
            "detector": self.detector,
            "score_bps": round(self.score * 10_000),
            "labels": list[JsonValue](self.labels[:16]),
        }


class Detector(Protocol):
    """Scores texts. Not guaranteed: that an attack is found, nor that a harmless text is not."""

    @property
    def name(self) -> str:
        """What findings call it."""
        ...

    def score(self, text: str) -> Finding:
        """Returns what it thinks of a text; deterministic, of any length, safe on any characters."""
        ...


def open_detector(name: str) -> Detector:
    """Returns a detector by its setting's name: `rules`, or `defender` (an extra).

    Raises:
        ConfigurationError: the name is unknown, or the extra is not installed.
    """
    if name == "rules":
        from neural_trader_governance.untrusted.rules import Rules

        return Rules()
    if name == "defender":
        from neural_trader_governance.untrusted.defender import Defender

        return Defender()
    raise ConfigurationError("unknown_detector", f"{name!r:.40} is no detector", "use rules or defender")
