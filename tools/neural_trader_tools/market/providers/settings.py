"""What the adapters of market data services must know."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from neural_trader_governance.addresses import Address, SocketAddress

MEBIBYTE = 1 << 20


class ServiceSettings(BaseModel):
    """How one REST service is asked.

    Attributes:
        url: Its address; of a mirror or a test server instead of the vendor's.
        requests_per_minute: By the plan; 0 is no limit. What the service's headers say overrules it.
        request_timeout_s: Our deadline for one answer, all of its body included.
        attempts_max: How often one read is tried before it counts as failed.
        retry_wait_s: The pause before the second attempt; it doubles, with as much jitter.
        body_bytes_max: An answer that is longer, unpacked, is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address
    requests_per_minute: int = Field(default=0, ge=0, le=1_000_000)
    request_timeout_s: float = Field(default=30.0, ge=0.05, le=600)
    attempts_max: int = Field(default=4, ge=1, le=20)
    retry_wait_s: float = Field(default=0.5, ge=0, le=60)
    body_bytes_max: int = Field(default=64 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE)


class StreamSettings(ServiceSettings):
    """How one service is listened to.

    Attributes:
        stream_url: Of its websockets, or of a mirror's or a test server's.
        connect_timeout_s: For the connection and each step of signing in and subscribing.
        ping_interval_s: The connection counts as broken when a ping is not answered for as long again.
        frame_bytes_max: A longer message ends the connection, unread.
    """

    stream_url: SocketAddress
    connect_timeout_s: float = Field(default=10.0, ge=0.05, le=120)
    ping_interval_s: float = Field(default=10.0, ge=0.05, le=600)
    frame_bytes_max: int = Field(default=16 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE)


class AlpacaSettings(StreamSettings):
    """Alpaca's market data: https://docs.alpaca.markets/docs/about-market-data-api."""

    url: Address = "https://data.alpaca.markets"
    stream_url: SocketAddress = "wss://stream.data.alpaca.markets"
    encoding: Literal["msgpack", "json"] = "msgpack"
    requests_per_minute: int = Field(default=200, ge=0, le=1_000_000)
    key_id: SecretStr | None = None
    secret_key: SecretStr | None = None
    feed: Literal["sip", "iex", "otc", "boats"] = "sip"


class MassiveSettings(StreamSettings):
    """Massive, formerly Polygon: https://massive.com/docs/rest."""

    url: Address = "https://api.massive.com"
    stream_url: SocketAddress = "wss://socket.massive.com"
    requests_per_minute: int = Field(default=5, ge=0, le=1_000_000, description="The free plan's")
    api_key: SecretStr | None = None


class PackageSettings(BaseModel):
    """How a package is driven that speaks to a service in its own way.

    Attributes:
        url: Of a mirror or a test server, whose paths are the service's; None is the service itself.
        requests_per_minute: Calls of the package; 0 is no limit. It may space its requests further.
        request_timeout_s: Our deadline for one call.
        attempts_max: How often one call is tried before it counts as failed.
        retry_wait_s: The pause before the second attempt; it doubles, with as much jitter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address | None = None
    requests_per_minute: int = Field(default=60, ge=0, le=1_000_000)
    request_timeout_s: float = Field(default=60.0, ge=0.05, le=600)
    attempts_max: int = Field(default=4, ge=1, le=20)
    retry_wait_s: float = Field(default=0.5, ge=0, le=60)


class CcxtSettings(PackageSettings):
    """Crypto exchanges by the package ccxt: https://docs.ccxt.com.

    Attributes:
        exchange: As ccxt calls it, such as kraken; empty where none was chosen.
    """

    exchange: str = Field(default="", pattern=r"^[a-z0-9]{0,32}$")


class YfinanceSettings(PackageSettings):
    """Yahoo's charts by the package yfinance: https://ranaroussi.github.io/yfinance."""
