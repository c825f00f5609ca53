"""The services that market data come from: their settings and keys, and the adapters made of them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.redaction import remember

if TYPE_CHECKING:
    from neural_trader_server.settings import Settings
    from neural_trader_tools.market.providers.port import HistoryProvider
    from neural_trader_tools.market.providers.settings import AlpacaSettings, MassiveSettings
    from neural_trader_tools.market.providers.standing import Standing
    from neural_trader_tools.market.providers.stream import StreamProvider

SERVICES = ("alpaca", "massive")
PACKAGES = ("ccxt", "yfinance")
"""Extras: each drives a package that speaks to services in its own way, for history only and without keys."""
KEYRING_SERVICE = "neural-trader"


def open_provider(
    name: str, settings: "Settings", config: Path, archive_root: Path, *, exchange: str = ""
) -> "tuple[HistoryProvider, Standing]":
    """Returns a provider's adapter, which goes on where its last standing left off, and that standing.

    Args:
        name: One of `SERVICES` or `PACKAGES`.
        settings: Of the home.
        config: The home's config.toml, for messages.
        archive_root: The archive's folder.
        exchange: For ccxt, instead of the setting's.

    Raises:
        InputError: there is no such service.
        ConfigurationError: a setting is not valid, or an extra is not installed; a key that is missing is
            found out when it is needed.
    """
    if name in PACKAGES:
        return _open_package(name, settings, config, archive_root, exchange)
    from neural_trader_tools.market.providers.alpaca import Alpaca
    from neural_trader_tools.market.providers.massive import Massive
    from neural_trader_tools.market.providers.settings import AlpacaSettings
    from neural_trader_tools.market.providers.standing import Standing

    chosen = service_settings(name, settings, config)
    standing = Standing(archive_root, name, chosen.requests_per_minute)
    breaker, budget, changed = standing.breaker, standing.budget, standing.changed
    if isinstance(chosen, AlpacaSettings):
        return Alpaca(chosen, breaker=breaker, budget=budget, on_change=changed), standing
    return Massive(chosen, breaker=breaker, budget=budget, on_change=changed), standing


def open_stream(
    name: str, settings: "Settings", config: Path, archive_root: Path
) -> "tuple[StreamProvider, Standing]":
    """Returns a provider's live stream, and how it stands: apart from its history, which another host serves.

    Args:
        name: One of `SERVICES`.
        settings: Of the home.
        config: The home's config.toml, for messages.
        archive_root: The archive's folder.

    Raises:
        InputError: there is no such service.
        ConfigurationError: a setting is not valid.
    """
    from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
    from neural_trader_tools.market.providers.massive_stream import MassiveStream
    from neural_trader_tools.market.providers.settings import AlpacaSettings
    from neural_trader_tools.market.providers.standing import Standing

    chosen = service_settings(name, settings, config)
    standing = Standing(archive_root, f"{name}-stream", 0)
    if isinstance(chosen, AlpacaSettings):
        return AlpacaStream(chosen), standing
    return MassiveStream(chosen), standing


def service_settings(name: str, settings: "Settings", config: Path) -> "AlpacaSettings | MassiveSettings":
    """Returns what the adapters of a service must know, its key included where there is one.

    Args:
        name: One of `SERVICES`.
        settings: Of the home.
        config: The home's config.toml, for messages.

    Raises:
        InputError: there is no such service.
        ConfigurationError: a setting is not valid.
    """
    from neural_trader_tools.market.providers.settings import AlpacaSettings, MassiveSettings

    if name not in SERVICES:
        raise InputError(
            "unknown_provider", f"{name!r:.40} is no provider", f"use one of {', '.join(SERVICES)}"
        )
    names = ("url", "stream_url", "requests_per_minute", *(("feed",) if name == "alpaca" else ()))
    given: dict[str, Any] = {each: getattr(settings, f"{name}_{each}") for each in names}
    try:
        if name == "alpaca":
            key = find_key(settings.alpaca_key_id, "APCA_API_KEY_ID", "alpaca-key-id")
            secret = find_key(settings.alpaca_secret_key, "APCA_API_SECRET_KEY", "alpaca-secret-key")
            return AlpacaSettings(key_id=key, secret_key=secret, **given)
        key = find_key(settings.massive_api_key, "MASSIVE_API_KEY", "massive")
        return MassiveSettings(api_key=key, **given)
    except ValidationError as error:
        raise _invalid(name, error, config) from None


def _open_package(
    name: str, settings: "Settings", config: Path, archive_root: Path, exchange: str
) -> "tuple[HistoryProvider, Standing]":
    from neural_trader_tools.market.providers.ccxt_exchanges import CcxtExchange
    from neural_trader_tools.market.providers.settings import CcxtSettings, YfinanceSettings
    from neural_trader_tools.market.providers.standing import Standing
    from neural_trader_tools.market.providers.yahoo import Yahoo

    given: dict[str, Any] = {
        each: getattr(settings, f"{name}_{each}") for each in ("url", "requests_per_minute")
    }
    given["url"] = given["url"] or None
    try:
        if name == "ccxt":
            chosen = CcxtSettings(exchange=exchange or settings.ccxt_exchange, **given)
        else:
            chosen = YfinanceSettings(**given)
    except ValidationError as error:
        raise _invalid(name, error, config) from None
    apart = f"-{chosen.exchange}" if isinstance(chosen, CcxtSettings) and chosen.exchange else ""
    standing = Standing(archive_root, name + apart, chosen.requests_per_minute)
    breaker, budget, changed = standing.breaker, standing.budget, standing.changed
    if isinstance(chosen, CcxtSettings):
        return CcxtExchange(chosen, breaker=breaker, budget=budget, on_change=changed), standing
    return Yahoo(chosen, breaker=breaker, budget=budget, on_change=changed), standing


def _invalid(name: str, error: ValidationError, config: Path) -> ConfigurationError:
    first = error.errors(include_url=False)[0]
    setting = f"{name}_{'.'.join(str(part) for part in first['loc'])}"
    return ConfigurationError(
        "invalid_setting",
        f"{setting}: {first['msg']}",
        f"fix NEURAL_TRADER_{setting.upper()} or the line `{setting} = …` in {config}",
    )


def find_key(setting: SecretStr | None, variable: str, keyring_name: str) -> SecretStr | None:
    """A key: our setting, the vendor's own variable, the operating system's keyring."""
    found = setting.get_secret_value() if setting is not None else ""
    found = found or os.environ.get(variable, "") or _recalled(keyring_name)
    if not found:
        return None
    remember(found)
    return SecretStr(found)


def _recalled(name: str) -> str:
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, name) or ""
    except KeyringError:
        return ""
