"""The venue that orders go to: its settings and keys, and the adapter made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from neural_trader_governance.addresses import is_loopback
from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.market_services import find_key

if TYPE_CHECKING:
    from neural_trader_governance.store import Store
    from neural_trader_governance.terms.clocks import Clock
    from neural_trader_server.settings import Settings
    from neural_trader_tools.brokers.alpaca import AlpacaBroker
    from neural_trader_tools.brokers.ccxt_broker import CcxtBroker


def is_real_market(settings: "Settings") -> bool:
    """Tells whether orders meet a market of now, and not one that is replayed on this machine."""
    return settings.broker != "paper" and not _is_here(settings)


def is_live_address(settings: "Settings") -> bool:
    """Tells whether orders go where real money is."""
    from neural_trader_tools.brokers.alpaca_documents import LIVE_URL

    if settings.broker == "ccxt":
        return not settings.broker_sandbox and not _is_here(settings)
    return settings.broker == "alpaca" and settings.broker_url.rstrip("/") == LIVE_URL


def _is_here(settings: "Settings") -> bool:
    from urllib.parse import urlsplit

    return is_loopback(urlsplit(settings.broker_url).hostname or "")


def open_alpaca(settings: "Settings", config: Path, clock: "Clock") -> "AlpacaBroker":
    """Returns the adapter of Alpaca's trading API; whoever asks closes it.

    Args:
        settings: Of the home.
        config: The home's config.toml, for messages.
        clock: The machine's.

    Raises:
        ConfigurationError: a setting is not valid, a key is missing, or the address is of real money while
            the setting `live_trading` does not say so.
    """
    from neural_trader_tools.brokers.alpaca import AlpacaBroker
    from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings

    key_id = find_key(settings.broker_key_id or settings.alpaca_key_id, "APCA_API_KEY_ID", "alpaca-key-id")
    secret = find_key(
        settings.broker_secret_key or settings.alpaca_secret_key, "APCA_API_SECRET_KEY", "alpaca-secret-key"
    )
    try:
        chosen = AlpacaTradingSettings(
            url=settings.broker_url,
            key_id=key_id,
            secret_key=secret,
            stand_in_symbol=settings.broker_stand_in,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigurationError(
            "invalid_setting",
            f"broker_url: {first['msg']}",
            f"fix NEURAL_TRADER_BROKER_URL or the line `broker_url = …` in {config}",
        ) from None
    broker = AlpacaBroker(chosen, clock)
    if broker.mode == "live" and not settings.live_trading:
        raise ConfigurationError(
            "live_not_switched_on",
            f"{settings.broker_url} trades real money, and the setting live_trading is off",
            "trade on paper: broker_url = https://paper-api.alpaca.markets; or read docs/orders.md on live",
        )
    return broker


def open_ccxt(
    settings: "Settings", config: Path, clock: "Clock", store: "Callable[[], Store]"
) -> "CcxtBroker":
    """Returns the adapter of an exchange of the package ccxt; whoever asks closes it.

    Args:
        settings: Of the home.
        config: The home's config.toml, for messages.
        clock: The machine's.
        store: Opens the desk's record, once an order is asked about.

    Raises:
        ConfigurationError: a setting is not valid, the extra or a key is missing, orders cannot safely go
            there, or they would be of real money while the setting `live_trading` does not say so.
    """
    from neural_trader_tools.brokers.ccxt_broker import CcxtBroker
    from neural_trader_tools.brokers.ccxt_venues import CcxtTradingSettings, Recorded
    from neural_trader_tools.orders import book

    if is_live_address(settings) and not settings.live_trading:
        raise ConfigurationError(
            "live_not_switched_on",
            f"{settings.broker_exchange} outside of its sandbox trades real money, and the setting"
            " live_trading is off",
            "set broker_sandbox = true; or read docs/brokers.md on real money",
        )

    def record(client_order_id: str) -> "Recorded | None":
        with store().read() as connection:
            if not book.has_order(connection, client_order_id):
                return None
            order = book.find_order(connection, client_order_id)
        return Recorded(order.intent, order.created_time)

    try:
        chosen = CcxtTradingSettings(
            exchange=settings.broker_exchange,
            url=settings.broker_url if _is_here(settings) else None,
            sandbox=settings.broker_sandbox,
            currency=settings.broker_currency,
            key_id=find_key(settings.broker_key_id, "CCXT_API_KEY", "ccxt-key-id"),
            secret_key=find_key(settings.broker_secret_key, "CCXT_SECRET", "ccxt-secret"),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigurationError(
            "invalid_setting",
            f"broker_{first['loc'][0]}: {first['msg']}",
            f"fix the environment's NEURAL_TRADER_BROKER_… or the lines `broker_… =` in {config}",
        ) from None
    return CcxtBroker(chosen, clock, record)
