"""The way to a NATS broker: its settings, and a connection that is made anew when it was lost.

nats-py could reconnect by itself, but would then send what it had buffered before what we send again, out of
order. So each connection is used once: whoever needs one after a loss makes it, and what was not acknowledged
is sent again, in order, under the same ids.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from neural_trader_governance.addresses import is_loopback
from neural_trader_governance.errors import ConfigurationError, NetworkError, NeuralTraderError

# nats-py's signatures are typed in part only.
Client = Any
JetStreamContext = Any

RETRY_S_MIN, RETRY_S_MAX = 0.05, 2.0


class NatsSettings(BaseModel):
    """Where the broker is, and how we say who we are.

    Attributes:
        url: `nats://` of this machine, or `tls://` anywhere.
        credentials: A `.creds` file (JWT and key), where the broker wants one.
        user: With `password`, the other way.
        token: The third.
        authority: A PEM file with the certificate authority of a private broker.
        prefix: Keeps desks on one broker apart: before every subject, and in the names of streams.
        dedup_window_s: For so long the broker knows message ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "nats://127.0.0.1:4222"
    credentials: Path | None = None
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    authority: Path | None = None
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    connect_timeout_s: float = Field(default=2.0, gt=0, le=60)
    answer_timeout_s: float = Field(default=5.0, gt=0, le=60)
    dedup_window_s: float = Field(default=600.0, ge=0.1, le=86_400)

    @model_validator(mode="after")
    def _safe(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"nats", "tls"} or not parts.hostname or parts.username:
            raise ValueError("a broker is nats://host:port or tls://host:port, with the secrets elsewhere")
        if parts.scheme == "nats" and not is_loopback(parts.hostname):
            raise ValueError("a broker on another machine is reached by tls://")
        return self


class Broker:
    """A connection to the broker, whichever is the current one.

    Args:
        settings: Where and how.
        timeout_s: How long `ready` tries.
    """

    def __init__(self, settings: NatsSettings, *, timeout_s: float) -> None:
        self.settings = settings
        self._timeout_s = timeout_s
        self._client: Client = None
        self._streams: JetStreamContext = None
        self._connecting = anyio.Lock(fast_acquire=True)
        self._when_lost: list[Callable[[], object]] = []
        self._closed = False
        self._problem = ""
        self.connections = 0
        """How many were made since the start."""

    def when_lost(self, action: Callable[[], object]) -> None:
        """Calls `action` whenever a connection is lost."""
        self._when_lost.append(action)

    def forget(self, action: Callable[[], object]) -> None:
        """Calls `action` no more."""
        self._when_lost.remove(action)

    @property
    def client(self) -> Client:
        """The connection, where there is one that works."""
        return self._client if self._client is not None and self._client.is_connected else None

    async def ready(self, timeout_s: float | None = None) -> tuple[Client, JetStreamContext]:
        """Returns a connection that works, made anew where the last one was lost.

        Args:
            timeout_s: How long to try; as settings say by default.

        Raises:
            NetworkError: nobody answered in time.
            ConfigurationError: the broker refused us, or nats-py is not installed.
            anyio.ClosedResourceError: closed.
        """
        if self._client is not None and self._client.is_connected and self._streams is not None:
            return self._client, self._streams
        async with self._connecting:
            pause_s, self._problem = RETRY_S_MIN, "no answer"
            with anyio.move_on_after(self._timeout_s if timeout_s is None else timeout_s):
                while True:
                    if self._closed:
                        raise anyio.ClosedResourceError
                    if self._client is not None and self._client.is_connected and self._streams is not None:
                        return self._client, self._streams
                    try:
                        return await self._connect()
                    except OSError as error:
                        self._problem = str(error) or type(error).__name__
                    await anyio.sleep(pause_s)
                    pause_s = min(RETRY_S_MAX, 2 * pause_s)
        raise unreachable(self.settings.url, self._problem)

    async def aclose(self) -> None:
        """Closes the connection."""
        self._closed = True
        if self._client is not None and not self._client.is_closed:
            await self._client.close()

    async def _connect(self) -> tuple[Client, JetStreamContext]:
        try:
            import nats.errors

            from neural_trader_tools.bus.connection import Connection
        except ImportError:
            raise ConfigurationError(
                "nats_missing",
                "the bus is to go over NATS, and the package nats-py is not installed",
                'install it: pip install "neural-trader[nats]", or set bus = "local"',
            ) from None

        async def closed() -> None:
            for action in list(self._when_lost):
                action()

        async def note(error: Exception) -> None:
            self._problem = str(error) or type(error).__name__

        identity = self._identity()
        client: Any = Connection()
        try:
            await client.connect(
                self.settings.url,
                allow_reconnect=False,
                reconnect_time_wait=RETRY_S_MIN,
                closed_cb=closed,
                error_cb=note,
                name="neural-trader",
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=0,  # nothing is buffered for a connection that is not there
                **identity,
            )
        except BaseException as error:
            # An attempt that failed leaves its socket open; after a failed handshake asyncio waits for ever.
            with anyio.move_on_after(RETRY_S_MIN, shield=True):
                await client.close()
            if "uthorization" in str(error):
                raise self._refused(str(error)) from error
            if isinstance(error, nats.errors.Error | TimeoutError | OSError):  # SSLError is an OSError
                raise OSError(str(error) or type(error).__name__) from error
            raise
        self._client, self._streams = client, client.jetstream(timeout=self.settings.answer_timeout_s)
        self.connections += 1
        return self._client, self._streams

    def _identity(self) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {"connect_timeout": settings.connect_timeout_s}
        if settings.credentials is not None:
            if not settings.credentials.is_file():
                raise ConfigurationError(
                    "no_credentials",
                    f"{settings.credentials} is no file",
                    "set bus_credentials to the broker's .creds file",
                )
            options["user_credentials"] = str(settings.credentials)
        if settings.user is not None and settings.password is not None:
            options |= {"user": settings.user, "password": settings.password.get_secret_value()}
        elif settings.token is not None:
            options["token"] = settings.token.get_secret_value()
        if settings.url.startswith("tls://"):
            try:
                options["tls"] = ssl.create_default_context(
                    cafile=None if settings.authority is None else str(settings.authority)
                )
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    "no_authority", f"{settings.authority}: {error}", "set bus_authority to a PEM file"
                ) from error
        return options

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            "bus_refused",
            f"the broker at {self.settings.url} does not let us in ({why})",
            "set bus_credentials, bus_user and bus_password, or bus_token",
        )


def unreachable(url: str, problem: str) -> NetworkError:
    """Returns the failure of a broker that does not answer."""
    return NetworkError(
        "bus_unreachable",
        f"the broker at {url} does not answer ({problem})",
        'start it (nats-server -js -a 127.0.0.1 -sd FOLDER), or set bus = "local"; publish again under the'
        " same ids",
    )


def answered_with(error: Exception) -> NeuralTraderError:
    """Returns what a broker's refusal means to people."""
    return NetworkError(
        "bus_refused_request",
        f"the broker refused ({error})",
        "see the broker's log; JetStream must be enabled (nats-server -js) and have room",
    )
