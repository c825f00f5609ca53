"""Reading marks: makes durable that an agent is about to be shown text from outside, before it is."""

from collections.abc import Callable, Sequence

import anyio.to_thread
import structlog

from neural_trader_governance import taints
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.untrusted.detectors import Detector, Finding
from neural_trader_governance.untrusted.readings import Reading

log = structlog.get_logger(__name__)


class ReadingMarks:
    """Taints who is calling; the detector's opinion goes with the mark and decides nothing."""

    def __init__(self, store: Store, caller: Callable[[], Caller], detector: Detector) -> None:
        self._store = store
        self._caller = caller
        self._detector = detector

    async def mark(self, tool: str, readings: Sequence[Reading]) -> None:
        """Marks the caller for each text that a tool shows.

        Raises:
            StorageError: the mark is not durable; the texts must not be shown.
        """
        await anyio.to_thread.run_sync(self._mark, tool, readings, self._caller())

    def _mark(self, tool: str, readings: Sequence[Reading], caller: Caller) -> None:
        judged = [(reading, self._judge(reading.text)) for reading in dict.fromkeys(readings)]
        with self._store.unit() as unit:
            for reading, finding in judged:
                seq = taints.mark(
                    unit,
                    caller=caller,
                    source=reading.source,
                    text=reading.text,
                    tool=tool,
                    finding=finding,
                )
                if seq is not None:
                    log.warning(
                        "outside_text_shown",
                        agent=caller.agent,
                        source=reading.source.value,
                        tool=tool,
                        score=None if finding is None else finding.score,
                        labels=None if finding is None else finding.labels,
                    )

    def _judge(self, text: str) -> Finding | None:
        try:
            return self._detector.score(text)
        except Exception:  # an opinion that cannot be had keeps nobody from being marked
            log.exception("detector_failed", detector=self._detector.name)
            return None
