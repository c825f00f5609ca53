"""The event bus that the settings choose: in this process over the home's `bus.db`, over NATS, or none."""

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import remember

if TYPE_CHECKING:
    from neural_trader_server.home import Home
    from neural_trader_server.settings import Settings
    from neural_trader_tools.bus.port import Bus

KEYRING_SERVICE = "neural-trader"


def make_bus(home: "Home", settings: "Settings") -> "Bus | None":
    """Returns the bus, or None where it is off; one over NATS connects when it is first used.

    Raises:
        ConfigurationError: a setting is not valid, or nats-py is not installed.
        StorageError: the home's `bus.db` cannot be opened.
    """
    if settings.bus == "off":
        return None
    if settings.bus == "local":
        from neural_trader_tools.bus.local import LocalBus
        from neural_trader_tools.bus.subjects import FAMILIES

        return LocalBus(home.bus_db, on_disk=FAMILIES)
    if importlib.util.find_spec("nats") is None:
        raise ConfigurationError(
            "nats_missing",
            'bus = "nats" needs the package nats-py, which is not installed',
            'install it: pip install "neural-trader[nats]", or set bus = "local"',
        )
    from neural_trader_tools.bus.broker import NatsSettings
    from neural_trader_tools.bus.jetstream import JetStreamBus

    names = ("url", "credentials", "user", "authority", "prefix")
    given: dict[str, Any] = {name: getattr(settings, f"bus_{name}") for name in names}
    for name in ("password", "token"):
        given[name] = _secret(getattr(settings, f"bus_{name}"), f"nats-{name}")
    try:
        return JetStreamBus(NatsSettings(**given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "url"
        raise ConfigurationError(
            "invalid_setting",
            f"bus_{name}: {first['msg']}",
            f"fix NEURAL_TRADER_BUS_{name.upper()} or the line `bus_{name} = …` in {home.config}",
        ) from None


async def open_bus(home: "Home", settings: "Settings") -> "Bus":
    """Returns the bus, which answers.

    Raises:
        ConfigurationError: it is off, or as `make_bus`.
        NetworkError: the broker does not answer.
        StorageError: as `make_bus`.
    """
    bus = make_bus(home, settings)
    if bus is None:
        raise ConfigurationError(
            "bus_off", 'the bus is off (bus = "off")', 'set bus = "local" or "nats" in config.toml'
        )
    if settings.bus == "nats":
        from neural_trader_tools.bus.jetstream import JetStreamBus

        if isinstance(bus, JetStreamBus):
            await bus.broker.ready(bus.broker.settings.connect_timeout_s)
    return bus


def _secret(setting: SecretStr | None, name: str) -> SecretStr | None:
    """A secret: our setting, else the operating system's keyring; asked only where it has a backend."""
    found = setting.get_secret_value() if setting is not None else ""
    if not found and not os.environ.get("PYTHON_KEYRING_BACKEND", "").endswith("null.Keyring"):
        import keyring
        from keyring.errors import KeyringError

        try:
            found = keyring.get_password(KEYRING_SERVICE, name) or ""
        except KeyringError:
            found = ""
    if not found:
        return None
    remember(found)
    return SecretStr(found)
