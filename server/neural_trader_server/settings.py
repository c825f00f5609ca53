"""Settings: `NEURAL_TRADER_*` variables over `config.toml` in the home, over the defaults here.

Secrets come from the environment or the operating system's keyring, never from the file: it is copied, shared
and committed with the rest of a configuration.
"""

import ipaddress
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import remember
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import Currency
from neural_trader_governance.usage import Prices
from neural_trader_tools.memory.gates import SkillGate

if TYPE_CHECKING:
    from neural_trader_server.home import Home

KEYRING_NAMES: Final = {
    "embedder_key": "embedder",
    "e2b_api_key": "e2b",
    "alpaca_key_id": "alpaca-key-id",
    "alpaca_secret_key": "alpaca-secret-key",
    "broker_key_id": "alpaca-key-id",
    "broker_secret_key": "alpaca-secret-key",
    "massive_api_key": "massive",
    "bus_password": "nats-password",
    "bus_token": "nats-token",
}
"""The name of the service `neural-trader` under which the keyring holds a secret, where one is asked."""
CCXT_KEYRING_NAMES: Final = {"broker_key_id": "ccxt-key-id", "broker_secret_key": "ccxt-secret"}
"""The same where `broker = "ccxt"`: never Alpaca's."""


def is_loopback(url: str) -> bool:
    """Tells whether an address is of this very machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _webhook(url: SecretStr) -> SecretStr:
    """Returns an address that words may be sent to: encrypted, or of this machine."""
    plain = url.get_secret_value()
    parts = urlsplit(plain)
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(plain))):
        raise ValueError("a webhook is an https:// address, or http:// on this machine")
    return url


class Settings(BaseSettings):
    """What an operator may choose. Unknown names in `config.toml` are refused."""

    model_config = SettingsConfigDict(env_prefix="NEURAL_TRADER_", extra="forbid", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    agent: str = Field(
        default="agent-1",
        pattern=r"^[a-z0-9][a-z0-9_\-.]{0,39}$",
        description="The agent that calls over stdio",
    )
    principal: str = Field(default="owner", max_length=80, description="The person whom the agent serves")
    paper_cash_usd: Decimal = Field(default=Decimal(100_000), gt=0, le=Decimal(1_000_000_000))
    restricted_symbols: frozenset[Symbol] = Field(
        default=frozenset(), description='What no agent may trade, such as ["GME"]'
    )
    witness_url: str | None = Field(
        default=None,
        max_length=500,
        description="Where the pinned witness listens, instead of keys/witness.url",
    )
    require_api_key: bool | None = Field(
        default=None, description="Over HTTP; by default once `identity key issue` has issued the first key"
    )
    public_url: str = Field(
        default="",
        max_length=300,
        pattern=r"^(https://[A-Za-z0-9.\-\[\]:]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)?$",
        description="HTTP: the address that clients use where a proxy or a name stands before this server",
    )
    behind_tls_proxy: bool = Field(
        default=False,
        description="HTTP: only a proxy that encrypts can reach the address that is listened on",
    )
    tls_certificate: Path | None = Field(
        default=None, description="HTTP: PEM with the chain; then https only"
    )
    tls_key: Path | None = Field(default=None, description="HTTP: its private key, PEM, not locked")
    tls_client_authority: Path | None = Field(
        default=None, description="HTTP: PEM; every client then shows a certificate of it (mTLS)"
    )
    oauth_issuer: str | None = Field(
        default=None, max_length=500, description="HTTP: whose access tokens open the door (docs/security.md)"
    )
    oauth_jwks_url: str | None = Field(
        default=None, max_length=500, description="Of its keys; else its metadata says"
    )
    oauth_audience: str | None = Field(
        default=None, max_length=500, description="Whom tokens are for; else this server's own /mcp address"
    )
    oauth_algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...
    ] = Field(default=("RS256", "PS256", "ES256", "EdDSA"), min_length=1, description="Nothing else is taken")
    oauth_principal_claim: str = Field(default="sub", min_length=1, max_length=100)
    oauth_agent_claim: str = Field(
        default="client_id", min_length=1, max_length=100, description="Else azp, where a token lacks it"
    )
    oauth_names: dict[str, str] = Field(
        default={}, description='Who is who here, where a claim is no enrolled name: {"00u1…" = "owner"}'
    )
    http_requests_per_s: float = Field(
        default=200.0, ge=0, le=1e6, description="HTTP: of one caller, in the long run; 0 is no limit"
    )
    http_burst: int = Field(default=2_000, ge=1, le=1_000_000, description="HTTP: of one caller, at once")
    tool_deadline_s: float = Field(
        default=120.0, gt=0, le=3600, description="The longest a tool call may take"
    )
    memory_uri: str = Field(
        default="",
        max_length=500,
        pattern=r"^$|^/|^(file|s3|gs|az)://.",
        description="Where memories lie, instead of the home's memory/: a folder, or s3://BUCKET/PREFIX",
    )
    detector: Literal["rules", "defender"] = Field(
        default="rules", description="What gives its opinion on text from outside; the second is an extra"
    )
    alert_webhooks: tuple[Annotated[SecretStr, AfterValidator(_webhook)], ...] = Field(
        default=(), max_length=8, description="Where alerts are posted; the addresses are treated as secrets"
    )
    alert_webhook_secret: SecretStr | None = Field(
        default=None, description="Signs what is posted (HMAC-SHA256); at least 16 characters", min_length=16
    )
    embedder: Literal["minilm", "wordllama", "sentence-transformers", "openai"] = Field(
        default="minilm", description="What turns memories into vectors (docs/memory.md); another: reindex"
    )
    embedder_model: str = Field(
        default="", max_length=500, description="sentence-transformers: a folder; openai: the model's name"
    )
    embedder_dimension: int = Field(
        default=0, ge=0, le=8_192, description="Of those two: how many numbers a vector has"
    )
    embedder_url: str = Field(
        default="https://api.openai.com/v1", max_length=500, description="openai: or another that speaks it"
    )
    embedder_key: SecretStr | None = Field(
        default=None, description="openai: else the keyring's (neural-trader, embedder)"
    )
    usage_prices: Prices = Field(default=Prices(), description='USD a unit, such as {sandbox_s = "0.0001"}')
    lease_s: float = Field(
        default=900.0,
        ge=0,
        le=86_400,
        description="An agent that is silent for longer loses its working orders; 0: agents hold no lease",
    )
    skill_gate: SkillGate = Field(
        default=SkillGate(), description="What a sweep must show before a strategy is called a skill"
    )
    margin_rate: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=1,
        description="A year's interest on what paper margin accounts borrowed, as a fraction: 0.08 is 8 %",
    )
    mandates_required: bool = Field(default=False, description="No agent trades without a mandate")
    alert_desktop: bool = Field(default=False, description="Show alerts with notify-send")

    sandbox_backend: Literal["local", "e2b"] = Field(
        default="local", description="Where strategies run; e2b sends them and their data to a service"
    )
    sandbox_profile: Literal["full", "landlock"] = Field(
        default="full", description="Of the local sandbox; landlock is weaker, for hosts without namespaces"
    )
    e2b_api_key: SecretStr | None = Field(
        default=None, description="Else E2B_API_KEY, else the keyring's (neural-trader, e2b)"
    )
    e2b_template: str = Field(default="neural-trader", max_length=128)
    e2b_domain: str = Field(default="e2b.app", max_length=253)
    e2b_api_url: str | None = Field(
        default=None,
        max_length=500,
        description="Of a self-hosted or a test service, instead of the domain's",
    )
    e2b_sandbox_url: str | None = Field(default=None, max_length=500, description="Its sandboxes' address")
    e2b_request_timeout_s: float = Field(default=20.0, ge=0.1, le=600)
    e2b_start_timeout_s: float = Field(default=180.0, ge=0.1, le=1800)
    e2b_lifetime_s: int = Field(
        default=300, ge=5, le=3600, description="After this the service ends a sandbox that we forgot"
    )
    e2b_warm: int = Field(default=0, ge=0, le=16, description="Sandboxes kept waiting; each costs money")
    e2b_price_usd_per_s: Decimal = Field(
        default=Decimal("0.0001"),
        ge=0,
        le=1_000,
        description="A second of a sandbox's life, by your contract",
    )

    alpaca_key_id: SecretStr | None = Field(
        default=None, description="Else APCA_API_KEY_ID, else the keyring's (neural-trader, alpaca-key-id)"
    )
    alpaca_secret_key: SecretStr | None = Field(
        default=None, description="Else APCA_API_SECRET_KEY, else the keyring's (…, alpaca-secret-key)"
    )
    alpaca_url: str = Field(
        default="https://data.alpaca.markets", max_length=500, description="Of the market data, or a mirror's"
    )
    alpaca_stream_url: str = Field(
        default="wss://stream.data.alpaca.markets", max_length=500, description="Of its live data"
    )
    alpaca_feed: Literal["sip", "iex", "otc", "boats"] = Field(
        default="sip", description="What plans allow differs; each feed is a data set of its own"
    )
    alpaca_requests_per_minute: int = Field(
        default=200, ge=0, le=1_000_000, description="By your plan; 0 is no limit"
    )
    broker: Literal["paper", "alpaca", "ccxt"] = Field(
        default="paper",
        description="Where orders go: our own paper venue, Alpaca's trading API, or an exchange of ccxt",
    )
    broker_url: str = Field(
        default="https://paper-api.alpaca.markets",
        max_length=500,
        description="Alpaca's paper host, its live host (docs/orders.md), or an exchange on this machine",
    )
    broker_exchange: str = Field(
        default="", max_length=32, description="ccxt: where orders go, such as binance (docs/brokers.md)"
    )
    broker_sandbox: bool = Field(
        default=True, description="ccxt: the exchange's sandbox; false is real money (docs/brokers.md)"
    )
    broker_currency: Currency = Field(default="USD", description="ccxt: what pairs are quoted in")
    broker_key_id: SecretStr | None = Field(
        default=None, description="Else alpaca_key_id, APCA_API_KEY_ID, the keyring's (…, alpaca-key-id)"
    )
    broker_secret_key: SecretStr | None = Field(
        default=None, description="Else alpaca_secret_key, APCA_API_SECRET_KEY, the keyring's"
    )
    broker_stand_in: Symbol = Field(
        default="SPY", description="Bid a cent for, to use up an order id that never arrived (ADR 11)"
    )
    live_trading: bool = Field(
        default=False, description="The first of two switches; the second is `neural-trader live enable`"
    )
    massive_api_key: SecretStr | None = Field(
        default=None, description="Else MASSIVE_API_KEY, else the keyring's (neural-trader, massive)"
    )
    massive_url: str = Field(default="https://api.massive.com", max_length=500, description="Or a mirror's")
    massive_stream_url: str = Field(
        default="wss://socket.massive.com", max_length=500, description="Or wss://delayed.massive.com"
    )
    massive_requests_per_minute: int = Field(
        default=5, ge=0, le=1_000_000, description="By your plan (the free one's is 5); 0 is no limit"
    )
    ccxt_exchange: str = Field(
        default="", max_length=32, description="An extra: where `data fetch ccxt` asks, such as kraken"
    )
    ccxt_url: str = Field(default="", max_length=500, description="Of a mirror; else the exchange itself")
    ccxt_requests_per_minute: int = Field(
        default=60, ge=0, le=1_000_000, description="Beside the package's own spacing; 0 is no limit"
    )
    yfinance_url: str = Field(default="", max_length=500, description="An extra: a mirror instead of Yahoo")
    yfinance_requests_per_minute: int = Field(default=60, ge=0, le=1_000_000, description="0 is no limit")

    bus: Literal["local", "nats", "off"] = Field(
        default="local", description="Where events go; nats is an extra and needs a broker (docs/bus.md)"
    )
    bus_url: str = Field(default="nats://127.0.0.1:4222", max_length=500, description="tls:// elsewhere")
    bus_prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9_-]{0,32}$", description="Keeps desks on one broker apart"
    )
    bus_credentials: Path | None = Field(default=None, description="A .creds file (JWT and key)")
    bus_authority: Path | None = Field(default=None, description="PEM of a private broker's authority")
    bus_user: str | None = Field(default=None, max_length=200)
    bus_password: SecretStr | None = Field(
        default=None, description="Else the keyring's (neural-trader, nats-password)"
    )
    bus_token: SecretStr | None = Field(
        default=None, description="Else the keyring's (neural-trader, nats-token)"
    )
    bus_market: Literal["bars", "all", "none"] = Field(
        default="bars", description="What of a feed is published; all has trades and quotes too"
    )

    def secrets(self) -> list[str]:
        """Returns every secret value, for redaction."""
        held = [
            *self.alert_webhooks,
            self.alert_webhook_secret,
            self.embedder_key,
            self.e2b_api_key,
            self.alpaca_key_id,
            self.alpaca_secret_key,
            self.broker_key_id,
            self.broker_secret_key,
            self.massive_api_key,
            self.bus_password,
            self.bus_token,
        ]
        return [secret.get_secret_value() for secret in held if secret is not None]


def secret_names() -> list[str]:
    """Returns the settings that hold a secret."""
    return [name for name, field in Settings.model_fields.items() if _holds_secret(field.annotation)]


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _refuse_secrets(document: Mapping[str, Any], config: Path) -> None:
    """Refuses a file that holds a secret, also one that the environment would override.

    Raises:
        ConfigurationError: it does; the value is not quoted.
    """
    for name in secret_names():
        if name in document:
            known = KEYRING_NAMES | (CCXT_KEYRING_NAMES if document.get("broker") == "ccxt" else {})
            keyring = f", or keep it with `keyring set neural-trader {known[name]}`" if name in known else ""
            raise ConfigurationError(
                "secret_in_config",
                f"{config} holds {name}, and secrets are not read from files",
                f"remove that line, change the secret where others could have read the file, and set"
                f" NEURAL_TRADER_{name.upper()}{keyring}",
            )


def load_settings(home: "Home") -> Settings:
    """Reads the settings of a home.

    Raises:
        ConfigurationError: a variable or a line of `config.toml` is not valid, or it holds a secret.
    """

    class HomeSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = TomlConfigSettingsSource(settings_cls, home.config)
            _refuse_secrets(file.toml_data, home.config)
            return (init_settings, env_settings, file)

    try:
        values: dict[str, Any] = HomeSettings().model_dump()
        settings = Settings.model_construct(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            "invalid_setting",
            f"{name}: {first['msg']}",
            f"fix NEURAL_TRADER_{name.upper()} or the line `{name} = …` in {home.config}",
        ) from error
    except ValueError as error:  # tomllib's own error is a ValueError
        raise ConfigurationError(
            "invalid_config", f"{home.config} is not TOML: {error}", "fix the file or move it away"
        ) from error
    for secret in settings.secrets():
        remember(secret)
    return settings
