"""One REST service of market data: reads within its budget, again where that may help, never for ever.

Order of one attempt: the circuit breaker lets it pass, the budget waits, the request goes out, the body is
read up to a bound, the answer is checked and decoded. Only reads are made here, so another changes nothing.
"""

import hashlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec
import stamina

from neural_trader_governance.addresses import is_loopback
from neural_trader_governance.errors import ConfigurationError, DataError, NetworkError, NeuralTraderError
from neural_trader_governance.redaction import HIDDEN, redact
from neural_trader_tools.market.providers.breaker import CircuitBreaker
from neural_trader_tools.market.providers.budget import RateBudget
from neural_trader_tools.market.providers.settings import MEBIBYTE, ServiceSettings

SAID_MAX = 300
_ERROR_BYTES_MAX = 64 * 1024

Kind = TypeVar("Kind")


class _PassingError(Exception):
    """A failure that may be over when the read is tried again."""

    def __init__(self, error: NeuralTraderError, *, blames_provider: bool = True) -> None:
        super().__init__(str(error))
        self.error = error
        self.blames_provider = blames_provider


@dataclass(frozen=True, slots=True)
class Answer(Generic[Kind]):
    """What a service answered."""

    value: Kind
    digest: str
    """SHA-256 of the body, hex."""


class RestService:
    """Reads JSON from one service.

    Args:
        name: The provider's, for messages and codes.
        settings: Address, plan and deadlines.
        headers: Sent with every request; the key is among them.
        secrets: Never said, whatever the service says.
        key_advice: What to do where the key is refused.
        breaker: Of this provider.
        budget: Of this provider.
        on_change: Called after each answer and failure: what stands may be written down.
        accept: The media types that are asked for.
        transport: Where connections are made otherwise than httpx makes them.
        unreachable_advice: What to do where nothing answers; by default, to look at the address's setting.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        key_advice: str,
        breaker: CircuitBreaker,
        budget: RateBudget,
        on_change: Callable[[], Awaitable[None]] | None = None,
        accept: str = "application/json",
        transport: httpx.AsyncBaseTransport | None = None,
        unreachable_advice: str = "",
    ) -> None:
        self.breaker = breaker
        self.budget = budget
        self._name = name
        self._settings = settings
        self._secrets = secrets
        self._key_advice = key_advice
        self._on_change = on_change
        self._host = urlsplit(settings.url).hostname or ""
        self._unreachable_advice = (
            unreachable_advice or f"look at this machine's network, and at the setting {name}_url"
        )
        self._client = httpx.AsyncClient(
            headers={**headers, "Accept": accept},
            transport=transport,
            timeout=settings.request_timeout_s,
            follow_redirects=False,  # a key goes where the settings say and nowhere else
            # TLS is not spoken on this machine: a context that trusts nobody saves reading the authorities.
            verify=settings.url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=not is_loopback(self._host),  # a proxy has no business between two of our own processes
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, path: str, params: Mapping[str, str], kind: type[Kind]) -> Answer[Kind]:
        """Reads and decodes one document.

        Args:
            path: Below the service's address, already quoted.
            params: Of the query.
            kind: What it must be.

        Raises:
            ConfigurationError: `provider_key_refused`, `provider_plan`.
            NetworkError: it cannot be reached or fails, after every attempt; or its circuit is open.
            DataError: it answers with something else than documented, or refuses the request.
        """
        return await self.read(path, params, lambda body: self._decoded(body, kind))

    async def read(
        self, path: str, params: Mapping[str, str] | None, decode: Callable[[bytes], Kind]
    ) -> Answer[Kind]:
        """Reads one document of any kind; see `get`.

        Args:
            path: Below the service's address, already quoted.
            params: Of the query; None where the path holds it.
            decode: Makes something of the body; what it raises is the document's fault.
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
                    return await self._attempt(path, params, decode)
        except _PassingError as failure:
            raise failure.error from None
        raise AssertionError("stamina ends with a result or an error")

    async def _attempt(
        self, path: str, params: Mapping[str, str] | None, decode: Callable[[bytes], Kind]
    ) -> Answer[Kind]:
        self.breaker.admit()
        try:
            await self.budget.take()
        except BaseException:
            self.breaker.abandoned()
            raise
        try:
            body = await self._body(path, params)
            answer = Answer(decode(body), hashlib.sha256(body).hexdigest())
        except _PassingError as failure:
            if failure.blames_provider:
                self.breaker.failed(failure.error.code)
            else:
                self.breaker.abandoned()
            await self._changed()
            raise
        except NeuralTraderError:
            self.breaker.succeeded()  # it answered, if not with what was wished
            await self._changed()
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        self.breaker.succeeded()
        await self._changed()
        return answer

    async def _body(self, path: str, params: Mapping[str, str] | None) -> bytes:
        """Returns the body of a 200, within the deadline and the bound."""
        deadline_s = self._settings.request_timeout_s
        try:
            with anyio.fail_after(deadline_s):
                async with self._client.stream("GET", self._settings.url + path, params=params) as response:
                    self.budget.observe(response.status_code, response.headers)
                    if response.status_code != 200:
                        self.refuse(response.status_code, await self._start_of(response))
                    return await self._whole(response)
        except (TimeoutError, httpx.TimeoutException):
            self._pass("provider_timeout", f"took longer than {deadline_s:g} s to answer", "try again later")
        except (httpx.ConnectError, OSError) as error:
            self._pass(
                "provider_unreachable",
                f"cannot be reached at {self._host} ({self._said(str(error))})",
                self._unreachable_advice,
            )
        except httpx.HTTPError as error:
            self._pass(
                "provider_connection_lost",
                f"let the connection break ({type(error).__name__}: {self._said(str(error))})",
                "try again; what was fetched so far is kept",
            )
        except httpx.InvalidURL as error:
            raise DataError(
                "provider_request_invalid", f"{self._name}: {self._said(str(error))}", "check the symbols"
            ) from None

    async def _whole(self, response: httpx.Response) -> bytes:
        bound = self._settings.body_bytes_max
        body = bytearray()
        async for piece in response.aiter_bytes(MEBIBYTE):
            body += piece
            if len(body) > bound:
                raise DataError(
                    "provider_answer_too_long",
                    f"{self._name} sent more than {bound} bytes in one answer",
                    "ask for a shorter range; if it stays so, the service or what stands before it is broken",
                )
        return bytes(body)

    async def _start_of(self, response: httpx.Response) -> str:
        if "location" in response.headers:
            return self._said(f"to {response.headers['location']}")
        body = bytearray()
        async for piece in response.aiter_bytes(4096):
            body += piece
            if len(body) >= _ERROR_BYTES_MAX:
                break
        try:
            said = msgspec.json.decode(bytes(body), type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._said(body.decode("utf-8", "replace"))
        return self._said(str(said.get("message") or said.get("error") or said))

    def refuse(self, status: int, said: str) -> NoReturn:
        """Raises what a status other than 200 means."""
        why = f"{status}{f': {said}' if said else ''}"
        if status == 401:
            raise ConfigurationError(
                "provider_key_refused", f"{self._name} refused the API key ({why})", self._key_advice
            )
        if status in {402, 403}:
            raise ConfigurationError(
                "provider_plan",
                f"{self._name} does not allow this with the given key ({why})",
                f"look at what the account's plan includes, or ask for older data; else {self._key_advice}",
            )
        if status == 429:
            error = NetworkError(
                "provider_rate_limited",
                f"{self._name} answers that it is asked too often ({why})",
                f"run it again in a minute, or lower {self._name}_requests_per_minute",
            )
            raise _PassingError(error, blames_provider=False)
        if status >= 500 or status == 408:
            self._pass("provider_failed", f"failed ({why})", "try again later")
        if 300 <= status < 400 or status < 200:
            raise DataError(
                "provider_redirects",
                f"{self._name} answered {why}: a key is not sent anywhere else",
                f"correct the setting {self._name}_url",
            )
        raise DataError(
            "provider_refused",
            f"{self._name} refused the request ({why})",
            "check the symbols, the interval and the range",
        )

    def _decoded(self, body: bytes, kind: type[Kind]) -> Kind:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            failure = DataError(
                "provider_answer_malformed",
                f"{self._name} sent {len(body)} bytes that are not what it documents"
                f" ({self._said(str(error))})",
                "try again; if it stays so, look whether a proxy answers in its place",
            )
            raise _PassingError(failure) from None

    def _pass(self, code: str, what: str, next_step: str) -> NoReturn:
        raise _PassingError(NetworkError(code, f"{self._name} {what}", next_step)) from None

    def _said(self, text: str) -> str:
        """What a stranger's server says: cut, on one line, and without our key."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        shown = "".join(letter if letter.isprintable() else " " for letter in redact(text))
        return " ".join(shown.split())[:SAID_MAX]

    async def _changed(self) -> None:
        if self._on_change is not None:
            await self._on_change()
