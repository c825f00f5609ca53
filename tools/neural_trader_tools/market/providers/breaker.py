"""A circuit breaker: a provider that keeps failing is left alone for a while, then tried with one request.

    closed ── failures in a row ──> open ── time is over ──> half open ── success ──> closed
                                     ^                           │
                                     └───── failure, for twice as long

Changes are logged as events. What a provider refuses (a wrong key, an unknown symbol, too many requests)
is no failure of it: it answered.
"""

from collections.abc import Callable
from typing import Literal

import structlog

from neural_trader_governance.errors import NetworkError

Circuit = Literal["closed", "open", "half_open"]

FAILURES_MAX = 5
OPEN_S = 30.0
OPEN_S_MAX = 600.0

_log = structlog.get_logger("neural_trader.market.providers")


class CircuitOpenError(NetworkError):
    """The provider failed too often; it was not asked."""


class CircuitBreaker:
    """Counts the failures of one provider, and says whether it may be asked.

    Args:
        provider: Its name, for messages and events.
        clock: Seconds since 1970; the wall's, so that the next process can go on with `open_until`.
        failures_max: Failures in a row that open it.
        open_s: How long it stays open the first time; twice as long each time the trial fails.
    """

    def __init__(
        self,
        provider: str,
        clock: Callable[[], float],
        *,
        failures_max: int = FAILURES_MAX,
        open_s: float = OPEN_S,
    ) -> None:
        self.provider = provider
        self.failures = 0
        self.open_until = 0.0
        self.last_failure = ""
        self._clock = clock
        self._failures_max = failures_max
        self._open_s_first = self._open_s = open_s
        self._is_trying = False

    @property
    def circuit(self) -> Circuit:
        """Where it stands now."""
        if self.failures < self._failures_max:
            return "closed"
        return "open" if self._remaining_s() > 0 else "half_open"

    def restore(self, failures: int, open_until: float, last_failure: str) -> None:
        """Goes on where an earlier process stood: every failure beyond the first to open it was a trial's."""
        self.failures, self.open_until, self.last_failure = failures, open_until, last_failure
        trials = min(max(failures - self._failures_max, 0), 32)
        self._open_s = min(self._open_s_first * 2**trials, OPEN_S_MAX)

    def admit(self) -> None:
        """Lets one request pass; every admitted one ends in `succeeded`, `failed` or `abandoned`.

        Raises:
            CircuitOpenError: the provider is left alone, or one request is trying it already.
        """
        circuit = self.circuit
        if circuit == "closed":
            return
        if circuit == "half_open" and not self._is_trying:
            self._is_trying = True
            _log.info("provider circuit half open", provider=self.provider, failures=self.failures)
            return
        raise CircuitOpenError(
            "provider_circuit_open",
            f"{self.provider} failed {self.failures} times in a row (last: {self.last_failure or 'unknown'})"
            f" and is left alone for another {self._remaining_s():.0f} s",
            "try again after that; what was fetched so far is kept",
            provider=self.provider,
        )

    def succeeded(self) -> None:
        """The provider answered."""
        if self.failures >= self._failures_max:
            _log.info("provider circuit closed", provider=self.provider)
        self.failures, self.open_until, self._open_s = 0, 0.0, self._open_s_first
        self._is_trying = False

    def failed(self, reason: str) -> None:
        """The provider did not answer, or not with what it should."""
        self.failures += 1
        self.last_failure = reason
        if self._is_trying:
            self._open_s = min(self._open_s * 2, OPEN_S_MAX)
        self._is_trying = False
        if self.failures >= self._failures_max:
            self.open_until = self._clock() + self._open_s
            _log.warning(
                "provider circuit open",
                provider=self.provider,
                failures=self.failures,
                reason=reason,
                open_s=self._open_s,
            )

    def abandoned(self) -> None:
        """The request was given up by us, which says nothing about the provider."""
        self._is_trying = False

    def _remaining_s(self) -> float:
        # A clock that was put back would keep it open for ever.
        return min(self.open_until - self._clock(), OPEN_S_MAX)
