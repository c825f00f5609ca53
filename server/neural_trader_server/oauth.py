"""OAuth: this server as a resource server (OAuth 2.1, RFC 9068 and 9728) that takes another's access tokens.

    NEURAL_TRADER_OAUTH_ISSUER=https://login.example.com/realms/desk
    NEURAL_TRADER_PUBLIC_URL=https://desk.example.com

The issuer's keys come from its JWKS, which is found through its metadata (RFC 8414, OpenID Connect) and kept;
a key that is not known yet is looked for, at most once in some seconds. A token says who calls (`sub`, and
`client_id` for the agent); what they may do here is their enrolment's, which the token's scopes only narrow.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx
import jwt
import structlog

from neural_trader_governance.errors import (
    ConfigurationError,
    InputError,
    NetworkError,
    NeuralTraderError,
    RiskError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role
from neural_trader_server.calling import Reach
from neural_trader_server.catalogue import TOOLSETS
from neural_trader_server.settings import is_loopback

if TYPE_CHECKING:
    from neural_trader_governance.terms.clocks import Clock
    from neural_trader_server.settings import Settings

ROLES = {
    "neural-trader:read": Role.READER,
    "neural-trader:research": Role.RESEARCHER,
    "neural-trader:trade": Role.TRADER,
}
"""What each scope opens at most; a token without any of them opens nothing."""

TOOLSET_SCOPES = {f"neural-trader:toolset:{name}": name for name in TOOLSETS}
"""A token with any of these reaches these toolsets only."""

LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""

KEEP_S, KEEP_AT_MOST_S, ASK_AGAIN_S = 300.0, 86_400.0, 10.0
"""JWKS: asked for anew after five minutes, useless after a day, never asked for twice in ten seconds."""

FETCH_TIMEOUT_S, FETCH_MAX_BYTES, TOKEN_MAX_CHARACTERS = 5.0, 1 << 18, 16_384
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token proved: who calls, and how far it reaches."""

    caller: Caller
    reach: Reach


class Keys:
    """The issuer's signing keys by id, fetched when they are first needed and kept.

    Args:
        issuer: As tokens name it; its metadata lies below it.
        jwks_url: Where the keys are; None asks the metadata.
        now: Seconds of a clock that never goes back.
        transport: How requests travel; the network's by default.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        now: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._now = now
        self._transport = transport
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._asked = -math.inf
        self._turn = anyio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """Returns the key that signed, or is said to have.

        Args:
            key_id: As the token's head names it; a token without one is taken where there is one key.
            algorithm: Of the signature; a key of another kind is not its key.

        Raises:
            RiskError: `token_invalid`, where the issuer has no such key.
            NetworkError: `issuer_unreachable`, where its keys are not known.
        """
        found = self._find(key_id, algorithm)
        stale = self._now() - self._fetched > KEEP_S
        if found is None or (
            stale and not self._turn.locked()
        ):  # who has a key waits for nobody else's asking
            await self._refresh(key_id, algorithm)
            found = self._find(key_id, algorithm)
        if found is not None and self._now() - self._fetched <= KEEP_AT_MOST_S:
            return found
        if self._now() - self._fetched > KEEP_AT_MOST_S:
            raise NetworkError(
                "issuer_unreachable",
                f"the keys of {self._issuer} cannot be read, so no token can be checked",
                "try again soon; the operator sees why in the server's log",
            )
        raise _invalid("no key of the issuer made its signature")

    def _find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            (key,) = self._keys.values()
        else:
            key = self._keys.get(key_id or "")
        if key is None or key.key_type != _KINDS[algorithm[:2]]:
            return None
        said = cast("Mapping[str, Any]", key._jwk_data).get("alg")  # pyright: ignore[reportPrivateUsage]  # no other way
        return key if said in {None, algorithm, "EdDSA" if algorithm == "Ed25519" else algorithm} else None

    async def _refresh(self, key_id: str | None, algorithm: str) -> None:
        async with self._turn:
            fresh = self._now() - self._fetched <= KEEP_S
            if (
                fresh and self._find(key_id, algorithm) is not None
            ) or self._now() - self._asked < ASK_AGAIN_S:
                return  # somebody else has asked meanwhile
            self._asked = self._now()
            try:
                self._keys = await self._fetch()
                self._fetched = self._now()
            except (httpx.HTTPError, ValueError, NeuralTraderError) as error:
                log.error(
                    "jwks_not_read", issuer=self._issuer, error=f"{type(error).__name__}: {error}"[:300]
                )

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        async with httpx.AsyncClient(
            timeout=FETCH_TIMEOUT_S, follow_redirects=False, transport=self._transport
        ) as http:
            url = self._jwks_url or await self._discover(http)
            listed = (await _read(http, url)).get("keys")
        keys: dict[str, jwt.PyJWK] = {}
        for each in cast("list[Any]", listed) if isinstance(listed, list) else []:
            key = _signing_key(each)
            if key is not None:
                keys[key.key_id or ""] = key
        if not keys:
            raise ValueError("the JWKS holds no public signing key")
        log.info("jwks_read", issuer=self._issuer, keys=sorted(keys))
        return keys

    async def _discover(self, http: httpx.AsyncClient) -> str:
        """Returns where the keys are, as the issuer's metadata says.

        Raises:
            ValueError: no metadata is there, or it is another issuer's.
        """
        for url in metadata_urls(self._issuer):
            try:
                metadata = await _read(http, url)
            except (httpx.HTTPError, ValueError) as error:
                log.info("metadata_not_there", url=url, error=type(error).__name__)
                continue
            if metadata.get("issuer") != self._issuer:
                raise ValueError(f"{url} speaks for another issuer")
            where = metadata.get("jwks_uri")
            if not isinstance(where, str):
                raise ValueError(f"{url} names no jwks_uri")
            return require_safe(where)
        raise ValueError("the issuer publishes no metadata; set oauth_jwks_url")


class TokenReader:
    """Reads access tokens: signature, issuer, audience, times, scopes, and whom they name.

    Args:
        settings: `oauth_issuer` is set.
        resource: This server's own address, which tokens must be for.
        keys: The issuer's.
        clock: Ends tokens.
    """

    def __init__(self, settings: "Settings", resource: str, keys: Keys, clock: "Clock") -> None:
        self._issuer = settings.oauth_issuer or ""
        self._audience = settings.oauth_audience or resource
        self._algorithms = tuple(settings.oauth_algorithms)
        self._principal_claim = settings.oauth_principal_claim
        self._agent_claims = (settings.oauth_agent_claim, "azp")
        self._names = dict(settings.oauth_names)
        self._keys = keys
        self._clock = clock

    async def read(self, token: str) -> Bearer:
        """Returns what a token proves.

        Raises:
            RiskError: `token_invalid`, or `scope_missing` where it opens nothing here.
            NetworkError: the issuer's keys cannot be read.
        """
        if len(token) > TOKEN_MAX_CHARACTERS:
            raise _invalid("it is too long")
        try:
            head = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _invalid("it is no JWT") from error
        algorithm = head.get("alg")
        if algorithm not in self._algorithms:
            raise _invalid("its algorithm is not one that this server takes")
        key_id = head.get("kid")
        key = await self._keys.find(key_id if isinstance(key_id, str) else None, algorithm)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                # Times are ours to judge, by the desk's clock.
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.PyJWTError as error:
            raise _invalid(_why(error)) from error
        self._require_now(claims)
        return Bearer(self._caller(claims), _reach(claims))

    def _require_now(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now().timestamp()
        times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
        for name, at in times.items():
            if at is not None and (isinstance(at, bool) or not isinstance(at, int | float)):
                raise _invalid(f"its {name} is no time")
        expires, begins, issued = times["exp"], times["nbf"], times["iat"]
        if expires is None or now >= expires + LEEWAY_S:
            raise _invalid("it has expired")
        if any(at is not None and at > now + LEEWAY_S for at in (begins, issued)):
            raise _invalid("it is not valid yet")

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        principal = claims.get(self._principal_claim)
        agent = next((claims[name] for name in self._agent_claims if name in claims), None)
        if not isinstance(principal, str) or not isinstance(agent, str) or not principal or not agent:
            raise _invalid(f"it names nobody: {self._principal_claim} and {self._agent_claims[0]} are needed")
        try:
            return Caller(self._names.get(principal, principal), self._names.get(agent, agent))
        except InputError as error:
            raise _invalid("its names are no names here; map them with oauth_names") from error


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Returns where an issuer's metadata may lie: RFC 8414, then OpenID Connect, both spellings."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    ways = [
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
        f"{path}/.well-known/openid-configuration",
    ]
    return tuple(dict.fromkeys(urlunsplit((parts.scheme, parts.netloc, way, "", "")) for way in ways))


def resource_metadata(resource: str, issuer: str) -> dict[str, Any]:
    """Returns what a client learns of us before it has a token (RFC 9728)."""
    return {
        "resource": resource,
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "scopes_supported": [*ROLES, *TOOLSET_SCOPES],
        "resource_name": "Neural Trader",
    }


def require_safe(url: str) -> str:
    """Returns an address that keys may come from: encrypted, or of this machine.

    Raises:
        ConfigurationError: it is neither.
    """
    parts = urlsplit(url)
    if parts.hostname and not parts.username and (parts.scheme == "https" or is_loopback(url)):
        return url
    raise ConfigurationError(
        "issuer_not_safe", f"{url!r:.100} is neither https:// nor of this machine", "use an https:// address"
    )


async def _read(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """Returns a small JSON object.

    Raises:
        ValueError: what is there is none.
    """
    async with http.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        answer.raise_for_status()
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > FETCH_MAX_BYTES:
                raise ValueError(f"{url} is larger than {FETCH_MAX_BYTES} bytes")
    found: Any = httpx.Response(200, content=bytes(body)).json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} holds no JSON object")
    return cast("dict[str, Any]", found)


def _signing_key(jwk: object) -> jwt.PyJWK | None:
    """Returns a public key for signatures; None for secrets, keys of encryption and what we cannot read."""
    if not isinstance(jwk, dict):
        return None
    document = cast("dict[str, Any]", jwk)
    if document.get("kty") not in set(_KINDS.values()) or document.get("use", "sig") != "sig":
        return None
    try:
        return jwt.PyJWK({name: value for name, value in document.items() if name != "d"})
    except (jwt.PyJWTError, ValueError):
        return None


def _reach(claims: Mapping[str, Any]) -> Reach:
    """Reads `scope` (RFC 9068: one string) or `scp` (Entra and Okta: a string or a list)."""
    said: Any = claims.get("scope", claims.get("scp", ""))
    words: list[Any] = cast("list[Any]", said) if isinstance(said, list) else str(said).split()
    roles = [ROLES[word] for word in words if isinstance(word, str) and word in ROLES]
    toolsets = frozenset(
        TOOLSET_SCOPES[word] for word in words if isinstance(word, str) and word in TOOLSET_SCOPES
    )
    if not roles:
        raise RiskError(
            "scope_missing",
            "the token has none of the scopes that open something here",
            f"ask the issuer for one of {', '.join(ROLES)}",
        )
    return Reach(max(roles, key=list(ROLES.values()).index), toolsets or None)


def _why(error: jwt.PyJWTError) -> str:
    """Says what is wrong with a token, in words that hold nothing of the token."""
    reasons = {
        jwt.InvalidAudienceError: "it is for another server",
        jwt.InvalidIssuerError: "another issuer made it",
        jwt.InvalidSignatureError: "its signature does not verify",
        jwt.MissingRequiredClaimError: "it lacks exp, iss or aud",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), "it does not verify")


def _invalid(why: str) -> RiskError:
    return RiskError(
        "token_invalid",
        f"the access token is refused: {why}",
        "get a fresh one from the issuer, for this server",
    )
