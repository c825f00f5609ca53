"""Readings: text from outside, noted at the place where it is about to be shown to an agent.

    with collecting() as readings:       # the gate, around one tool call
        expose(Source.SANDBOX, message)  # the tool, where a stranger's words enter its answer

Whoever collects must make the mark durable before the answer leaves. Outside a collection (a person
at the command line) exposing does nothing: a person who reads a text is not an agent that obeys it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

OUTSIDE = "outside"
"""The name of the fact of an error whose words hold outside text; its value is a `Source`."""


class Source(StrEnum):
    """Who wrote a text that neither this desk, nor its people, nor the agent itself wrote."""

    NEWS = "news"
    MEMORY = "memory"
    SANDBOX = "sandbox"
    STRATEGY = "strategy"
    AGENT = "agent"
    VENUE = "venue"


@dataclass(frozen=True, slots=True)
class Reading:
    """One text from outside, as it was shown."""

    source: Source
    text: str


# The list is shared by the context's copies, so that threads of the same call note into it too.
_readings: ContextVar[list[Reading] | None] = ContextVar("neural_trader_readings", default=None)


def expose(source: Source, text: str) -> str:
    """Notes that an answer will show this text, and returns the text."""
    readings = _readings.get()
    if readings is not None and text.strip():
        readings.append(Reading(source, text))
    return text


def is_shown_to_an_agent() -> bool:
    """Tells whether what is answered now goes to an agent, and not to a person at the command line."""
    return _readings.get() is not None


@contextmanager
def collecting() -> Generator[list[Reading]]:
    """Collects what is exposed inside, also by threads that this context starts."""
    readings: list[Reading] = []
    token = _readings.set(readings)
    try:
        yield readings
    finally:
        _readings.reset(token)
