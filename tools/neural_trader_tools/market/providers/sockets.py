"""One websocket to a service: opened with a deadline, read up to a bound, its failures told apart.

The bound is the library's: a message that is longer is not read into memory, the connection ends instead.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import anyio

from neural_trader_governance.addresses import is_loopback
from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import HIDDEN, redact
from neural_trader_tools.market.providers.settings import StreamSettings
from neural_trader_tools.market.providers.stream import StreamEndedError

if TYPE_CHECKING:  # imported when a feed starts: servers and commands need none
    from websockets.asyncio.client import ClientConnection

SAID_MAX = 300
QUEUE_FRAMES = 64
"""Read ahead of us at most; then the service is slowed down by TCP, and may end the connection."""
TOO_BIG = 1009


class ServiceSocket:
    """A connection; `open_socket` makes it.

    Args:
        name: The provider's, for messages and codes.
        connection: The library's.
        secrets: Never said, whatever the service says.
        timeout_s: Of each step before the stream begins.
        frame_bytes_max: The bound that the connection was opened with.
    """

    def __init__(
        self,
        name: str,
        connection: "ClientConnection",
        secrets: tuple[str, ...],
        timeout_s: float,
        frame_bytes_max: int,
    ) -> None:
        self.name = name
        self._connection = connection
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._frame_bytes_max = frame_bytes_max

    async def send(self, message: bytes | str) -> None:
        """Sends a message.

        Raises:
            StreamEndedError: the connection is over.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            await self._connection.send(message)
        except ConnectionClosed as closed:
            self._closed(closed)

    async def receive(self) -> bytes:
        """Returns the next message's bytes, waiting for it.

        Raises:
            StreamEndedError: the connection is over.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            self._closed(closed)

    async def answer(self, step: str) -> bytes:
        """Returns the next message, which a step of signing in waits for.

        Raises:
            StreamEndedError: the connection is over, or the deadline is.
        """
        try:
            return await asyncio.wait_for(self.receive(), self._timeout_s)
        except TimeoutError:
            raise StreamEndedError(
                "stream_timeout",
                f"{self.name} did not answer within {self._timeout_s:g} s ({step})",
                "it is tried again",
            ) from None

    def said(self, text: str) -> str:
        """What a stranger's server says: cut, on one line, and without our key."""
        return _said(text, self._secrets)

    def _closed(self, closed: Exception) -> NoReturn:
        sent = getattr(closed, "sent", None)
        received = getattr(closed, "rcvd", None)
        if sent is not None and sent.code == TOO_BIG:
            raise StreamEndedError(
                "stream_frame_too_long",
                f"{self.name} sent a message above {self._frame_bytes_max} bytes; it was not read",
                "the feed goes on with a new connection; if it stays so, look what stands before the service",
            ) from None
        why = f"{received.code} {received.reason}" if received is not None else "no closing message"
        raise StreamEndedError(
            "stream_connection_lost",
            f"{self.name} ended the connection ({self.said(why)})",
            "the feed connects again",
        ) from None


@asynccontextmanager
async def open_socket(
    name: str, path: str, settings: StreamSettings, *, headers: Mapping[str, str], secrets: tuple[str, ...]
) -> AsyncGenerator[ServiceSocket]:
    """Opens a connection, and closes it at the end.

    Args:
        name: The provider's.
        path: Below `settings.stream_url`.
        settings: Address, deadlines, bounds.
        headers: Of the handshake.
        secrets: Never said.

    Raises:
        ConfigurationError: the handshake is refused for good.
        StreamEndedError: it fails otherwise.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

    url = settings.stream_url + path
    host = urlsplit(url).hostname or ""
    # A proxy has no business between two of our own processes.
    proxy = None if is_loopback(host) else True
    connecting = connect(
        url,
        proxy=proxy,
        additional_headers=headers,
        open_timeout=settings.connect_timeout_s,
        close_timeout=min(2.0, settings.connect_timeout_s),
        ping_interval=settings.ping_interval_s,
        ping_timeout=settings.ping_interval_s,
        max_size=settings.frame_bytes_max,
        max_queue=QUEUE_FRAMES,
    )
    # A redirect could lead the key to another host.
    connecting.process_redirect = lambda exc: exc  # pyright: ignore[reportAttributeAccessIssue]
    try:
        connection = await connecting
    except InvalidStatus as error:
        status = error.response.status_code
        body = _said((error.response.body or b"").decode("utf-8", "replace"), secrets)
        why = f"{status}{f': {body}' if body else ''}"
        if status in {401, 403}:
            raise ConfigurationError(
                "provider_key_refused",
                f"{name} refused the connection ({why})",
                "check the API key and the plan",
            ) from None
        if 300 <= status < 400 or status == 404:
            raise ConfigurationError(
                "provider_redirects",
                f"{name} has no stream at this address ({why})",
                f"correct the setting {name}_stream_url",
            ) from None
        raise StreamEndedError(
            "stream_refused",
            f"{name} refused the connection ({why})",
            "it is tried again, with growing pauses",
            blames_provider=status != 429,
        ) from None
    except (OSError, TimeoutError, InvalidHandshake, WebSocketException, EOFError) as error:
        raise StreamEndedError(
            "stream_unreachable",
            f"{name} cannot be reached at {host} ({type(error).__name__}: {_said(str(error), secrets)})",
            f"look at this machine's network, and at the setting {name}_stream_url",
        ) from None
    try:
        yield ServiceSocket(name, connection, secrets, settings.connect_timeout_s, settings.frame_bytes_max)
    finally:
        with anyio.CancelScope(shield=True):  # it has a deadline of its own
            await connection.close()


def _said(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    shown = "".join(letter if letter.isprintable() else " " for letter in redact(text))
    return " ".join(shown.split())[:SAID_MAX]
