"""A rate budget: how many requests a provider still takes, by its own headers and by our count.

`X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds since 1970) and `Retry-After` are believed where they
are sane. Our own count over the last minute holds where a provider sends none of them.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import anyio

from neural_trader_governance.errors import NetworkError

WINDOW_S = 60.0
WAIT_S_MAX = 120.0
"""Longer waits are an error: whoever waits should know, and decide."""
LIMIT_MAX = 1_000_000


class RateBudget:
    """Spaces the requests to one provider.

    Args:
        provider: Its name, for messages.
        per_minute: Requests a minute by the plan; 0 where it has no limit. Headers overrule it.
        clock: Seconds since 1970.
        sleep: Waits; anyio's by default.
    """

    def __init__(
        self,
        provider: str,
        per_minute: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.provider = provider
        self.limit = per_minute
        self.remaining: int | None = None
        self.reset_at = 0.0
        self._blocked_until = 0.0
        self._clock = clock
        self._sleep = sleep
        self._sent: deque[float] = deque()

    async def take(self) -> None:
        """Waits until a request may be sent, and counts it.

        Raises:
            NetworkError: `provider_rate_limited`, the provider wants a longer pause than `WAIT_S_MAX`.
        """
        while (wait_s := self.wait_s()) > 0:
            if wait_s > WAIT_S_MAX:
                raise NetworkError(
                    "provider_rate_limited",
                    f"{self.provider} takes no more requests for {wait_s:.0f} s",
                    "run it again after that; what was fetched so far is kept",
                    provider=self.provider,
                )
            await self._sleep(wait_s)
        self._sent.append(self._clock())
        if self.remaining:
            self.remaining -= 1

    def wait_s(self) -> float:
        """Returns for how long no request may be sent; 0 where one may be sent now."""
        now = self._clock()
        while self._sent and not now - WINDOW_S < self._sent[0] <= now:  # or the clock was put back
            self._sent.popleft()
        waits = [self._blocked_until - now]
        if self.remaining == 0:
            waits.append(self.reset_at - now)
        if self.limit and len(self._sent) >= self.limit:
            waits.append(self._sent[-self.limit] + WINDOW_S - now)
        return max(0.0, *waits)

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        """Learns from an answer.

        Args:
            status: Of HTTP; 429 means that no request is taken until the reset.
            headers: By lower-case name.
        """
        now = self._clock()
        limit, remaining = (_count(headers.get(f"x-ratelimit-{name}", "")) for name in ("limit", "remaining"))
        reset = _count(headers.get("x-ratelimit-reset", ""))
        if limit:
            self.limit = limit
        if remaining is not None and reset is not None:
            # Windows are minutes: a reset further away is another unit, or a clock that is wrong.
            self.remaining, self.reset_at = remaining, min(float(reset), now + WINDOW_S)
        if status == 429:
            pause_s = _retry_after_s(headers.get("retry-after", ""), now)
            if pause_s is None and reset is not None:
                pause_s = min(max(float(reset) - now, 0.0), WINDOW_S)
            self._blocked_until = now + (pause_s or 0.0)


def _count(text: str) -> int | None:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 12:
        return None
    return int(digits) if int(digits) <= LIMIT_MAX or len(digits) >= 10 else None


def _retry_after_s(text: str, now: float) -> float | None:
    """Reads seconds or an HTTP date (RFC 9110, 10.2.3)."""
    seconds = _count(text)
    if seconds is not None:
        return float(seconds)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
