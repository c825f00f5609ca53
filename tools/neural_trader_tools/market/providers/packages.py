"""Packages that speak to a service in their own way, with our circuit, budget, deadline and retries around.

`RestService` does this for services that we speak to ourselves. What a package does on the wire is its own
affair: how long an answer may be, which redirects it follows, how it spaces requests inside one call.
"""

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import anyio
import stamina

from neural_trader_governance.errors import ConfigurationError, DataError, NetworkError, NeuralTraderError
from neural_trader_governance.redaction import redact
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.settings import PackageSettings

SAID_MAX = 300

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exception of a package means."""

    error: NeuralTraderError
    again: bool = False
    """It may be over when the call is made again."""
    blames_provider: bool = False
    """It did not answer, or not with what it should."""


class _PassingError(Exception):
    """A failure that may be over when the call is made again."""

    def __init__(self, error: NeuralTraderError) -> None:
        super().__init__(str(error))
        self.error = error


def extra(module: str, name: str) -> ModuleType:
    """Imports a package that is an extra of ours.

    Args:
        module: What to import.
        name: Of the extra.

    Raises:
        ConfigurationError: `extra_missing`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            "extra_missing",
            f"the provider {name} needs the package {name}, which cannot be imported ({error})",
            f"install it: pip install 'neural-trader[{name}]'",
            package=name,
        ) from None


class PackageCalls:
    """Makes calls of one package.

    Args:
        provider: Its name, for messages.
        settings: Deadlines and attempts.
        judge: Says what an exception of the package means.
        breaker: Of this provider.
        budget: Of this provider.
        on_change: Called after each call: what stands may be written down.
    """

    def __init__(
        self,
        provider: str,
        settings: PackageSettings,
        judge: Callable[[Exception], Failure],
        *,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._judge = judge
        self._breaker = breaker
        self._budget = budget
        self._on_change = on_change

    async def call(self, action: Callable[[], Awaitable[Result]]) -> Result:
        """Returns what a call returns, after as many attempts as it needs.

        Raises:
            NeuralTraderError: as the judge says; NetworkError after the last attempt or by an open circuit.
        """
        settings = self._settings
        try:
            async for attempt in stamina.retry_context(
                on=_PassingError,
                attempts=settings.attempts_max,
                timeout=None,
                wait_initial=settings.retry_wait_s,
                wait_max=settings.retry_wait_s * 16,
                wait_jitter=settings.retry_wait_s,
            ):
                with attempt:
                    return await self._attempt(action)
        except _PassingError as passing:
            raise passing.error from None
        raise AssertionError("stamina ends with a result or an error")

    async def _attempt(self, action: Callable[[], Awaitable[Result]]) -> Result:
        self._breaker.admit()
        try:
            await self._budget.take()
            with anyio.fail_after(self._settings.request_timeout_s):
                result = await action()
        except NeuralTraderError:
            self._breaker.abandoned()
            raise
        except Exception as error:
            failure = self._meaning(error)
            if failure.blames_provider:
                self._breaker.failed(failure.error.code)
            else:
                self._breaker.succeeded()  # it answered, if not with what was wished
            await self._changed()
            raise (_PassingError(failure.error) if failure.again else failure.error) from None
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        await self._changed()
        return result

    def _meaning(self, error: Exception) -> Failure:
        if not isinstance(error, TimeoutError):
            return self._judge(error)
        told = f"{self._provider} took longer than {self._settings.request_timeout_s:g} s to answer"
        return Failure(NetworkError("provider_timeout", told, "try again later"), True, True)

    async def _changed(self) -> None:
        if self._on_change is not None:
            await self._on_change()


def rate_limited(provider: str, setting: str, error: Exception) -> Failure:
    """Too many requests: the provider works, and another try in a moment may do."""
    told = f"{provider} answers that it is asked too often ({said(error)})"
    return Failure(
        NetworkError("provider_rate_limited", told, f"run it again in a minute, or lower {setting}"), True
    )


def failed(provider: str, error: Exception) -> Failure:
    """The provider cannot be reached, or fails."""
    told = f"{provider} cannot be reached, or fails ({said(error)})"
    next_step = "try again later; if it stays so, look at this machine's network"
    return Failure(NetworkError("provider_failed", told, next_step), True, True)


def malformed(provider: str, error: Exception) -> Failure:
    """The package could not make sense of an answer."""
    told = f"{provider} sent what its package cannot read ({type(error).__name__}: {said(error)})"
    next_step = "try again; if it stays so, look for a newer version of the package"
    return Failure(DataError("provider_answer_malformed", told, next_step), True, True)


def said(error: Exception) -> str:
    """What a stranger's server or package says: cut, and on one line."""
    shown = "".join(letter if letter.isprintable() else " " for letter in redact(str(error)))
    return " ".join(shown.split())[:SAID_MAX]
