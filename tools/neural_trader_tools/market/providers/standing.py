"""Standings: how the providers did lately, in the archive's folder, for every process to see.

A fetch is one process and the desk that answers `status_get` another, so what a fetch learns of a provider
(its circuit, its budget) is written to `providers/NAME.json`, and the next fetch goes on from there.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from pydantic import Field, ValidationError

from neural_trader_governance.terms.clocks import UtcTime, format_time, from_epoch_us
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.providers.breaker import Circuit, CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget

FOLDER = "providers"
_SIZE_MAX = 65_536
_EVERY_S = 5.0


class ProviderStanding(Term):
    """One provider, as the last process that asked it left it."""

    provider: str = Field(pattern=r"^[a-z0-9\-]{1,40}$")
    circuit: Circuit
    failures: int = Field(ge=0, description="In a row")
    last_failure: str = Field(
        default="", pattern=r"^[a-z0-9_]{0,80}$", description="Code of the last failure in that row"
    )
    open_until: UtcTime | None = Field(default=None, description="Until then it is left alone")
    requests_limit: int = Field(ge=0, description="A minute; 0 is none")
    requests_remaining: int | None = Field(default=None, description="As it said last")
    seen_time: UtcTime = Field(description="When this was written")

    def said(self) -> str:
        """Returns it in a line, such as `closed; 178 of 200 requests a minute left at 2026-01-02T…`."""
        until = "" if self.open_until is None else f" until {format_time(self.open_until)}"
        failed = f" after {self.failures} failures, {self.last_failure} last" if self.failures else ""
        left = "?" if self.requests_remaining is None else self.requests_remaining
        budget = f"; {left} of {self.requests_limit} requests a minute left" if self.requests_limit else ""
        return f"{self.circuit}{until}{failed}{budget} at {format_time(self.seen_time)}"


class Standing:
    """Keeps the standing of one provider, and makes its breaker and budget from it.

    Args:
        root: The archive's folder.
        provider: Its name.
        per_minute: Requests by the plan.
        clock: Seconds since 1970.
        sleep: For the budget.
    """

    def __init__(
        self,
        root: Path,
        provider: str,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._path = root / FOLDER / f"{provider}.json"
        self._clock = clock
        self._written: tuple[tuple[str, int] | None, float] = (None, 0.0)
        self.breaker = CircuitBreaker(provider, clock)
        self.budget = RateBudget(provider, per_minute, clock, sleep)
        before = _read(self._path)
        if before is not None:
            until = before.open_until.timestamp() if before.open_until else 0.0
            self.breaker.restore(before.failures, until, before.last_failure)

    async def changed(self) -> None:
        """Writes down what stands: every change of the circuit, and the rest every few seconds."""
        health, written_at = self._written
        if self._health() != health or self._clock() - written_at >= _EVERY_S:
            await self.write()

    async def close(self) -> None:
        """Writes down how it ended, where the provider was asked at all."""
        if self._written[0] is not None:
            await self.write()

    async def write(self) -> None:
        """Writes down what stands.

        Raises:
            StorageError: the disk refused.
        """
        now = self._clock()
        breaker, budget = self.breaker, self.budget
        standing = ProviderStanding(
            provider=breaker.provider,
            circuit=breaker.circuit,
            failures=breaker.failures,
            last_failure=breaker.last_failure if breaker.failures else "",
            open_until=from_epoch_us(int(breaker.open_until * 1e6)) if breaker.open_until > now else None,
            requests_limit=budget.limit,
            requests_remaining=budget.remaining,
            seen_time=from_epoch_us(int(now * 1e6)),
        )
        content = standing.model_dump_json(indent=1).encode()

        def put(file: BinaryIO) -> None:
            file.write(content)

        await anyio.to_thread.run_sync(write_durably, self._path, put)
        self._written = (self._health(), now)

    def _health(self) -> tuple[str, int]:
        return self.breaker.circuit, self.breaker.failures


def standings(root: Path) -> list[ProviderStanding]:
    """Returns every provider that was asked from this archive, by name, where its file can be read."""
    found = (_read(path) for path in sorted((root / FOLDER).glob("*.json")))
    return [one for one in found if one is not None]


def _read(path: Path) -> ProviderStanding | None:
    try:
        with path.open("rb") as file:
            return ProviderStanding.model_validate_json(file.read(_SIZE_MAX))
    except (OSError, ValidationError):
        return None
