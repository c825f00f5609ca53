"""The wire to an exchange through the package ccxt: one call, once, and what an exception of it means.

The package reads numbers as floats: here every number of an answer stays its text, to the last digit. It
would sign two requests of one millisecond alike: here nonces rise. And its exceptions say what happened on
the wire; here they say whether something was surely not taken, or whether nobody knows.
"""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import anyio

from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_tools.brokers.ccxt_venues import CcxtTradingSettings, Ways
from neural_trader_tools.market.providers.packages import extra, said


class RefusedError(Exception):
    """An order was surely not taken; says why."""


class CcxtWire:
    """One exchange of the package, signed in.

    Args:
        settings: Which exchange, and how.
        ways: Of that exchange.

    Attributes:
        exchange: The package's own, unmodified class.

    Raises:
        ConfigurationError: the extra is not installed, there is no key, or no sandbox.
    """

    def __init__(self, settings: CcxtTradingSettings, ways: Ways) -> None:
        self._settings, self._ways = settings, ways
        self.package: Any = extra("ccxt.async_support", "ccxt")
        self.exchange: Any = _exchange(self.package, settings)
        self.name = f"ccxt-{settings.exchange}"
        self._lock = anyio.Lock()  # what is signed goes out in the order of its nonces

    async def call(self, action: Callable[[], Awaitable[Any]], *, refusable: bool = False) -> Any:
        """Makes one call, once.

        Raises:
            NetworkError: whether it was heard, and what came of it, is unknown.
            RefusedError: `refusable`, and it surely was not taken.
        """
        package = self.package
        certain = (package.InvalidOrder, package.InsufficientFunds, package.BadRequest)
        certain += (package.AuthenticationError, package.OperationRejected, package.NotSupported)
        certain += (package.ArgumentsRequired, package.InvalidNonce, package.DDoSProtection)
        try:
            async with self._lock:
                with anyio.fail_after(self._settings.request_timeout_s):
                    return await action()
        except (TimeoutError, package.BaseError) as error:
            words = self._clean(error)
            if refusable and (isinstance(error, certain) or self._ways.is_refusal(str(error))):
                raise RefusedError(words) from None
            self.unclear(f"did not answer, or not clearly ({type(error).__name__}: {words})")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # The package could not read the answer: what was asked for may have been done.
            self.unclear(f"sent what the package cannot read ({type(error).__name__}: {self._clean(error)})")

    def _clean(self, error: BaseException) -> str:
        words = re.sub(r"\?\S*", "", str(error))  # addresses are signed
        for secret in (self._settings.key_id, self._settings.secret_key):
            if secret is not None:
                words = words.replace(secret.get_secret_value(), "[hidden]")
        return said(Exception(words))

    def unclear(self, what: str) -> NoReturn:
        """Says that an outcome is unknown.

        Raises:
            NetworkError: always.
        """
        raise NetworkError(
            "broker_unclear",
            f"{self.name} {what}",
            "nothing is sent again; the desk looks the order up: neural-trader orders reconcile",
        )


def _exchange(package: Any, settings: CcxtTradingSettings) -> Any:
    if settings.key_id is None or settings.secret_key is None:
        raise ConfigurationError(
            "broker_key_missing",
            f"trading at {settings.exchange} needs a key",
            "set CCXT_API_KEY and CCXT_SECRET, or: keyring set neural-trader ccxt-key-id",
        )
    exchange: Any = getattr(package, settings.exchange)(
        {
            "apiKey": settings.key_id.get_secret_value(),
            "secret": settings.secret_key.get_secret_value(),
            "enableRateLimit": settings.url is None,
            "timeout": int(settings.request_timeout_s * 1000),
            "aiohttp_trust_env": settings.url is None,
            # No certificate is met at a plain address of this machine; reading them takes a quarter second.
            "verify": settings.url is None or not settings.url.startswith("http://"),
            "options": {
                "maxRetriesOnFailure": 0,  # nothing is sent twice, not by the package either
                "fetchMarkets": {"types": ["spot"]},
                "fetchCurrencies": False,
                "fetchMargins": False,
                "warnOnFetchOpenOrdersWithoutSymbol": False,
                "defaultType": "spot",
            },
        }
    )
    exchange.number = str
    exchange.on_json_response = _read_json
    exchange.nonce = _rising(exchange.milliseconds)
    if settings.url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], settings.url.rstrip("/"))
    elif settings.sandbox:
        if not exchange.urls.get("test"):
            raise ConfigurationError(
                "no_sandbox",
                f"{settings.exchange} has no sandbox, and orders there are real money",
                "take binance, which has one; or read docs/brokers.md on real money (broker_sandbox = false)",
            )
        exchange.set_sandbox_mode(True)
    return exchange


def _read_json(text: str) -> Any:
    """Reads an answer whose numbers stay the exchange's own text, to the last digit."""
    return json.loads(text, parse_float=str, parse_int=str)


def _rising(milliseconds: Callable[[], int]) -> Callable[[], int]:
    """Returns nonces: the time, and none twice; the package's would be, within a millisecond."""
    newest = 0

    def nonce() -> int:
        nonlocal newest
        newest = max(newest + 1, milliseconds())
        return newest

    return nonce


def _moved(place: Any, url: str) -> Any:
    """Returns an exchange's addresses with another host before their paths."""
    if isinstance(place, str):
        return url + urlsplit(place).path
    if isinstance(place, dict):
        named = cast("dict[str, Any]", place)
        return {name: _moved(each, url) for name, each in named.items()}
    return place
