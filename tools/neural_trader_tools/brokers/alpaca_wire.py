"""The wire to Alpaca's trading API: one request, once, its answer bounded and read, and no key ever said."""

import importlib.util
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn, cast

import httpx
from pydantic import ValidationError

from neural_trader_governance.addresses import is_loopback
from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_governance.redaction import redact
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings

_BODY_MAX = 4 * 1024 * 1024

if importlib.util.find_spec("sniffio") is None:
    # httpcore tries to import it at each request. Where it is not installed, that walks the whole path
    # again and again, a fifth of an order's CPU time; None says at once what the walk would find.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]


class AlpacaWire:
    """A signed-in client.

    Args:
        settings: Address and keys.

    Raises:
        ConfigurationError: no key.
    """

    def __init__(self, settings: AlpacaTradingSettings) -> None:
        if settings.key_id is None or settings.secret_key is None:
            raise ConfigurationError(
                "broker_key_missing",
                "trading at Alpaca needs a key",
                "set APCA_API_KEY_ID and APCA_API_SECRET_KEY, or: keyring set neural-trader alpaca-key-id",
            )
        self._secrets = (settings.key_id.get_secret_value(), settings.secret_key.get_secret_value())
        self.remaining: int | None = None
        """Requests left in this minute, as the last answer said; None where it said nothing."""
        host = httpx.URL(settings.url).host
        self._client = httpx.AsyncClient(
            base_url=settings.url.rstrip("/"),
            headers={"APCA-API-KEY-ID": self._secrets[0], "APCA-API-SECRET-KEY": self._secrets[1]},
            timeout=settings.request_timeout_s,
            follow_redirects=False,  # a key goes where the settings say and nowhere else
            trust_env=not is_loopback(host),
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Sends one request, once, and returns its status and JSON.

        Raises:
            NetworkError: whether it was heard, and what came of it, is unknown.
        """
        try:
            async with self._client.stream(method, path, **options) as response:
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _BODY_MAX:
                        self.unclear(f"sent more than {_BODY_MAX} bytes")
                left = response.headers.get("x-ratelimit-remaining", "")
                self.remaining = int(left) if left.isascii() and left.isdecimal() else None
                status = response.status_code
        except (httpx.HTTPError, OSError) as error:
            self.unclear(f"did not answer ({type(error).__name__}: {self._clean(str(error))})")
        if not body:
            return status, None
        try:
            return status, httpx.Response(200, content=bytes(body)).json(parse_float=Decimal)
        except (ValueError, RecursionError):
            if status >= 400:
                return status, {"message": self._clean(bytes(body[:300]).decode("utf-8", "replace"))}
            self.unclear("sent an answer that is no JSON")

    def read(self, model: Callable[..., Any], body: Any) -> Any:
        """Returns a document as its model.

        Raises:
            NetworkError: it is not what is documented.
        """
        try:
            return model(**body)
        except (ValidationError, TypeError) as error:
            self.unclear(f"sent a document that is not what it documents ({self._clean(str(error))[:200]})")

    def said(self, body: Any, status: int) -> str:
        """Returns a refusal in words that may be shown."""
        message = str(field_of(body, "message") or "")
        return f"{status}: {self._clean(message)[:300]}" if message else str(status)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return " ".join("".join(each if each.isprintable() else " " for each in redact(text)).split())

    def unclear(self, what: str) -> NoReturn:
        """Says that an outcome is unknown.

        Raises:
            NetworkError: always.
        """
        raise NetworkError(
            "broker_unclear",
            f"alpaca {what}",
            "nothing is sent again; the desk looks the order up: neural-trader orders reconcile",
        )


def field_of(body: Any, name: str) -> Any:
    """Returns a member of a JSON object; None where it has none, or is none."""
    return cast("dict[str, Any]", body).get(name) if isinstance(body, dict) else None
