"""Hearing: whether this home hears of its fills, in a file that every process on it can ask.

One process of a home listens to the venue, whoever took the lock; the others need to know that one does.
The listener says so every few seconds. What it said long ago counts for nothing: the dead take nothing back.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog
from pydantic import ValidationError

from neural_trader_governance.terms.clocks import Clock, UtcTime
from neural_trader_governance.terms.term import Term

_log = structlog.get_logger(__name__)

BEAT_S = 3.0
STALE_AFTER = timedelta(seconds=10)


class Standing(Term):
    """What the listener said last."""

    problem: str
    """Why it does not hear; empty where it does."""
    said_time: UtcTime
    connections: int = 0


class Hearing:
    """One home's hearing.

    Args:
        path: Of the file; its lock lies beside it.
        clock: The machine's.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def why_deaf(self) -> str:
        """Returns why no process of this home hears its venue; empty where one does."""
        try:
            standing = Standing.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return "no server of this home listens to it"
        except (OSError, ValidationError):
            return "what the listening server said cannot be read"
        if self._clock.now() - standing.said_time > STALE_AFTER:
            return "no server of this home listens to it any more"
        return standing.problem

    def say(self, problem: str, connections: int) -> None:
        """Tells every process how it stands."""
        standing = Standing(problem=problem[:300], said_time=self._clock.now(), connections=connections)
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(standing.model_dump_json().encode())
            fresh.replace(self._path)
        except OSError as error:  # what was said before grows stale, and nothing is sent
            _log.error("hearing.unsaid", error=str(error))

    @contextmanager
    def alone(self) -> Generator[bool]:
        """Yields whether this process is the one that listens, while the context is open."""
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)
