"""Connections: what uvicorn's do for us below HTTP: whose certificate came, and heads that never end.

uvicorn tells an application nothing of TLS, and waits for ever for the end of a request's head. Both are
mixed into whichever of its two protocols is installed (httptools' is faster, h11's is always there).

    subject of a client's certificate:  O = the person, CN = the agent     (both as they are enrolled)
"""

import asyncio
import functools
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import structlog

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.identity import Caller

if TYPE_CHECKING:
    from neural_trader_server.settings import Settings

PEER_KEY = "neural_trader.peer"
"""Where a request carries whom its connection's certificate names, in the ASGI scope."""

HEAD_WITHIN_S = 10.0
"""From the first byte of a request, or of a connection, to the end of the request's head."""

log = structlog.get_logger(__name__)


def tls_context(settings: "Settings") -> ssl.SSLContext | None:
    """Returns what encrypts, as the settings say; None where nothing does.

    Raises:
        ConfigurationError: a file is missing or no PEM, or belongs to another.
    """
    if settings.tls_certificate is None:
        if settings.tls_key is not None or settings.tls_client_authority is not None:
            raise ConfigurationError(
                "tls_incomplete", "tls_certificate is not set", "set tls_certificate and tls_key"
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a passphrase: OpenSSL would ask for one on the terminal, which a server has not.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, lambda: "")
        if settings.tls_client_authority is not None:
            context.load_verify_locations(settings.tls_client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            "tls_not_usable",
            f"the TLS files cannot be used: {error}",
            "check tls_certificate, tls_key (PEM, not locked) and tls_client_authority",
        ) from error
    return context


def caller_of_certificate(certificate: Mapping[str, Any]) -> Caller:
    """Returns whom a certificate names that the authority has signed.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` decodes it.

    Raises:
        InputError: it names nobody, or somebody twice.
    """
    named: dict[str, list[str]] = {}
    for rdn in certificate.get("subject", ()):
        for field, value in rdn:
            named.setdefault(field, []).append(value)
    persons, agents = named.get("organizationName", []), named.get("commonName", [])
    if len(persons) != 1 or len(agents) != 1:
        raise InputError(
            "certificate_names_nobody",
            "the certificate's subject does not name one person (O) and one agent (CN)",
            "have the authority sign a subject such as /O=owner/CN=agent-1",
        )
    return Caller(persons[0], agents[0])


class Connection:
    """Mixed into a protocol of uvicorn's."""

    app: Any
    transport: Any
    cycle: Any
    loop: asyncio.AbstractEventLoop
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Notes whose the connection is, and begins to wait for a request."""
        super().connection_made(transport)  # type: ignore[misc]
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        if certificate:
            try:
                peer: Caller | InputError = caller_of_certificate(certificate)
            except InputError as error:
                peer = error
            self.app = functools.partial(_with_peer, self.app, peer)
        self._timer = self.loop.call_later(HEAD_WITHIN_S, self._last_call)

    def data_received(self, data: bytes) -> None:
        """Waits for the end of the head where no request is being served."""
        if self._timer is None and self._idle():
            self._timer = self.loop.call_later(HEAD_WITHIN_S, self._last_call)
        super().data_received(data)  # type: ignore[misc]
        if self._timer is not None and not self._idle():
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)  # type: ignore[misc]

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _last_call(self) -> None:
        """Looks once more after a moment: a loop that was late reads first what has come in the meantime."""
        self._timer = self.loop.call_later(min(1.0, HEAD_WITHIN_S), self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self._idle() and not self.transport.is_closing():
            log.info("head_too_slow")
            self.transport.close()


async def _with_peer(
    app: Callable[..., Any], peer: Caller | InputError, scope: dict[str, Any], receive: Any, send: Any
) -> None:
    await app({**scope, PEER_KEY: peer}, receive, send)


def connection_class() -> type[asyncio.Protocol]:
    """Returns the fastest protocol of uvicorn's that is installed, with ours mixed in."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Fastest
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Fastest
    return cast("type[asyncio.Protocol]", type("NeuralTraderConnection", (Connection, Fastest), {}))
