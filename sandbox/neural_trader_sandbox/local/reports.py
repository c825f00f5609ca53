"""How far a guest is, as frames on its data socket. Standard library only, like all of the guest's side."""

import inspect
import math
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from time import monotonic  # taken here: a strategy's clock may be pinned while it runs
from typing import Any, Final

from neural_trader_sandbox import frames

STEP: Final = 0.001
"""The least gain that is worth a frame, so that their count is bounded."""

_PAUSE_S = 0.1


class Report:
    """The function that an entry is given as `report`; it may call it as often as it likes.

    Args:
        wire: The data socket.
        lock: Held while a frame is written; one for all that write to this wire.
    """

    def __init__(self, wire: socket.socket, lock: AbstractContextManager[object]) -> None:
        self._wire, self._lock = wire, lock
        self._told = 0.0
        self._due = 0.0

    def __call__(self, fraction: float) -> None:
        """Tell the host the finished part, 0 … 1; nothing where it is soon, or hardly more than before."""
        now = monotonic()
        if now < self._due or not math.isfinite(fraction) or fraction - self._told < STEP:
            return
        self._due, self._told = now + _PAUSE_S, float(fraction)
        frame = frames.pack_json(frames.PROGRESS, {"fraction": round(min(self._told, 1.0), 4)})
        with self._lock:
            self._wire.sendall(frame)


def reporting(entry: Callable[..., Any], report: Report) -> Mapping[str, Report]:
    """What to call an entry with beside its arguments: `report`, where it has a parameter of that name."""
    return {"report": report} if "report" in inspect.signature(entry).parameters else {}
