"""What a running guest prints and claims, handed to whoever watches: cleaned, bounded, never trusted.

An escape sequence, or a character, may come split over two frames: text is handed on by whole lines. A line
that is too long goes on in parts; since each is cleaned by itself, no control character survives the cut.
"""

from typing import Final, Literal

import structlog

from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import plain_text
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local.reports import STEP
from neural_trader_sandbox.port import Limits, Progress, Watch

_log = structlog.get_logger(__name__)
LINE_BYTES: Final = 4096
FRAMES_MAX: Final = 1100
"""An honest guest reports at least one STEP more each time, so it cannot need more."""
TEXTS_MAX: Final = 1000
"""Of one stream that are told line by line; from then on a watch hears LINE_BYTES at a time. A guest that
prints tens of thousands of empty lines, each in a frame of its own, would keep the desk busy with them."""

_FRAME_BYTES = 64
_STREAMS: Final[dict[int, Literal["stdout", "stderr"]]] = {frames.STDOUT: "stdout", frames.STDERR: "stderr"}


class Watching:
    """Stands between one run's answer and its `port.Watch`; implements `answers.Watcher`.

    Args:
        watch: May raise: then it is not called again.
        limits: `output_bytes` bounds what is printed.
    """

    def __init__(self, watch: Watch, limits: Limits) -> None:
        self._watch: Watch | None = watch
        self._limits = limits
        self._frames = 0
        self._fraction = -1.0
        self._left = dict.fromkeys(_STREAMS, limits.output_bytes)
        self._lines = {kind: bytearray() for kind in _STREAMS}
        self._texts = dict.fromkeys(_STREAMS, 0)

    def expect(self, size: int) -> None:
        """Count one more frame of progress.

        Raises:
            FrameError: It is too large, or one too many.
        """
        self._frames += 1
        if size > _FRAME_BYTES or self._frames > FRAMES_MAX:
            raise FrameError(f"frame {self._frames} of progress, {size} bytes; there may be {FRAMES_MAX}")

    def progress(self, fraction: float) -> None:
        """Tell a finished part, where it says more than the one before."""
        claimed = min(max(fraction, 0.0), 1.0)
        if claimed - self._fraction >= STEP or self._fraction < claimed == 1.0:
            self._fraction = claimed
            self._tell(Progress(fraction=claimed))

    def text(self, kind: int, data: bytes | bytearray) -> None:
        """Tell the lines that are whole; keep the rest for what follows it."""
        line = self._lines[kind]
        line += data
        self._left[kind] -= len(data)
        whole = line.rfind(b"\n") + 1
        if len(line) - whole >= LINE_BYTES:
            whole = len(line)
        if self._texts[kind] >= TEXTS_MAX and len(line) < LINE_BYTES:
            whole = 0
        if self._left[kind] <= 0:
            line += f"\n[cut at {self._limits.output_bytes} bytes]\n".encode()
            whole = len(line)
        self._tell_text(kind, whole)

    def close(self) -> None:
        """Tell the last lines, which have no end; the run is over."""
        for kind, line in self._lines.items():
            self._tell_text(kind, len(line))

    def _tell_text(self, kind: int, size: int) -> None:
        line = self._lines[kind]
        text = plain_text(bytes(line[:size]))
        del line[:size]
        if text:
            self._texts[kind] += 1
            self._tell(Progress(stream=_STREAMS[kind], text=text))

    def _tell(self, progress: Progress) -> None:
        if self._watch is None:
            return
        try:
            self._watch(progress)
        except Exception:  # whatever is wrong with it, the run is not
            self._watch = None
            _log.exception("sandbox watch failed; it is not called again")
