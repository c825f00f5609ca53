"""The front: what a request over HTTP passes before the protocol sees it, from the outside in.

    names       Host and Origin are this server's own (a page that resolves its own name to us is refused)
    door        who calls (authentication.py); 401
    bounds      how much, and how slowly, it may say (bounds.py); 413, 408
    rates       how often one caller may ask (rates.py); 429
    routes      /mcp, /artifacts/…, /healthz, /readyz, /metrics, the OAuth metadata, /console

What a call may do is not decided here but at the gate (gate.py), which stdio passes too.
"""

import ipaddress
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.authentication import METADATA, RequireKey
from neural_trader_server.bounds import MAX_BODY_BYTES, BoundRequests
from neural_trader_server.console.app import Console
from neural_trader_server.downloads import offer_downloads
from neural_trader_server.listening import is_loopback_host
from neural_trader_server.rates import STOPS_BURST, STOPS_PER_S, LimitRates, Rates

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from neural_trader_server.app import Services
    from neural_trader_server.endpoint import Endpoint
    from neural_trader_server.settings import Settings

MCP_PATH = "/mcp"
GUESTS: tuple[str, ...] = ("/console",)
"""First parts of paths that ask by themselves who is there: a person's session instead of an agent's key."""

_BLANKS = (b" ", b"\t")
STRANGERS_PER_S, STRANGERS_BURST = 1.0, 30


class Buckets:
    """The rates of one server, made before its workers are forked, so that all of them share one count."""

    def __init__(self, settings: "Settings") -> None:
        self.requests = Rates(settings.http_requests_per_s, settings.http_burst)
        self.stops = Rates(STOPS_PER_S, STOPS_BURST)
        self.strangers = Rates(STRANGERS_PER_S, STRANGERS_BURST)


class OwnNames:
    """ASGI middleware: a request under another name than ours, or from a page of another, goes no further.

    What goes on has header values without blanks around them, whoever parsed them.
    """

    def __init__(self, app: "ASGIApp", names: TransportSecuritySettings) -> None:
        self._app = app
        self._names = TransportSecurityMiddleware(names)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on, or answers 421 or 403."""
        if scope["type"] == "http":
            # Blanks around a value are no part of it (RFC 9110, 5.5); one of two parsers leaves them there.
            if any(value[-1:] in _BLANKS or value[:1] in _BLANKS for _, value in scope["headers"] if value):
                scope = {
                    **scope,
                    "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]],
                }
            refused = await self._names.validate_request(Request(scope))
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


def http_app(
    server: "Endpoint",
    services: "Services",
    *,
    host: str,
    url: str,
    buckets: Buckets,
    stateless: bool = False,
) -> "ASGIApp":
    """Returns the whole ASGI application of a server.

    Args:
        server: Its routes beside the protocol's are added already.
        services: The desk.
        host: What it listens on.
        url: Its own address, as clients here know it, without a path.
        buckets: The rates.
        stateless: The older protocol's sessions are not kept: its next request may come to another process.
    """
    settings = services.settings
    resource = f"{settings.public_url or url}{MCP_PATH}"
    tokens, metadata_url = None, ""
    if settings.oauth_issuer is not None:
        from neural_trader_server.oauth import Keys, TokenReader, require_safe, resource_metadata

        issuer = require_safe(settings.oauth_issuer)
        jwks_url = require_safe(settings.oauth_jwks_url) if settings.oauth_jwks_url else None
        tokens = TokenReader(settings, resource, Keys(issuer, jwks_url, time.monotonic), services.clock)
        document = resource_metadata(resource, issuer)
        metadata_url = f"{settings.public_url or url}{METADATA}{MCP_PATH}"

        async def metadata(_: Request) -> JSONResponse:
            headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "max-age=3600"}
            return JSONResponse(document, headers=headers)

        for path in (METADATA, f"{METADATA}{MCP_PATH}"):
            server.custom_route(path, methods=["GET"])(metadata)
    offer_downloads(server, services.artifacts)
    names = own_names(host, settings)
    app: ASGIApp = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        host=host,
        transport_security=names,
        stateless_http=stateless,
        max_request_body_size=MAX_BODY_BYTES,
    )
    app = Console(app, services, buckets.strangers, read_only=server.gate.read_only)
    app = LimitRates(app, buckets.requests, buckets.stops)
    app = BoundRequests(app)
    app = RequireKey(
        app,
        store=services.store,
        issuer=services.issuer,
        clock=services.clock,
        required=is_door_shut(host, settings),
        tokens=tokens,
        metadata_url=metadata_url,
        open_metrics=is_private(host, settings),
        guests=GUESTS,
        strangers=buckets.strangers,
    )
    return OwnNames(app, names)


def own_names(host: str, settings: "Settings | None" = None) -> TransportSecuritySettings:
    """Returns under which names requests may come, and from whose pages.

    The SDK does so by itself for three spellings of loopback only, and 127.0.0.2 is none of them. An address
    that stands for all (0.0.0.0) is nobody's name: a page may not reach us by it.
    """
    own = [] if is_every(host) else [f"[{host}]" if ":" in host else host]
    names = tuple(dict.fromkeys(("127.0.0.1", "localhost", "[::1]", *own)))
    encrypted = settings is not None and settings.tls_certificate is not None
    origins = [f"{'https' if encrypted else 'http'}://{name}:*" for name in names]
    hosts = [f"{name}:*" for name in names]
    if settings is not None and settings.public_url:
        hosts.append(urlsplit(settings.public_url).netloc)
        origins.append(settings.public_url)
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins
    )


def require_reachable(host: str, settings: "Settings") -> None:
    """Refuses to listen where strangers could reach the desk, or read keys on their way to it.

    Raises:
        ConfigurationError: a public address without encryption, without a door, or without a name.
    """
    if is_loopback_host(host):
        return
    shown = f"{host!r:.60} is not a loopback address"
    if settings.tls_certificate is None and not settings.behind_tls_proxy:
        raise ConfigurationError(
            "public_bind_refused",
            f"{shown}, and nothing encrypts what is said to it",
            "use --host 127.0.0.1 and an SSH tunnel or stdio; or set tls_certificate and tls_key, or"
            " behind_tls_proxy where only a proxy that encrypts can reach this address (docs/security.md)",
        )
    if settings.require_api_key is False:
        raise ConfigurationError(
            "public_bind_refused",
            f"{shown}, and require_api_key is false",
            "remove that setting: whoever reaches a public address says who they are",
        )
    if is_every(host) and not settings.public_url:
        raise ConfigurationError(
            "public_bind_refused",
            f"{shown} but stands for all of this machine, and public_url is not set",
            "set public_url to the address that clients use, such as https://desk.example.com",
        )


def is_door_shut(host: str, settings: "Settings") -> bool | None:
    """Tells whether callers always say who they are; None: from the first key on."""
    if settings.require_api_key is not None:
        return settings.require_api_key
    trusts_somebody = settings.oauth_issuer is not None or settings.tls_client_authority is not None
    return True if trusts_somebody or not is_private(host, settings) else None


def is_private(host: str, settings: "Settings") -> bool:
    """Tells whether only this machine can ask: a loopback address, and no proxy before it."""
    return is_loopback_host(host) and not settings.public_url and not settings.behind_tls_proxy


def is_every(host: str) -> bool:
    """Tells whether an address stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == ""
