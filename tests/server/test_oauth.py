"""OAuth: which access tokens open the door, against an issuer with real keys that turns, fails and lies."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from neural_trader_governance.errors import ConfigurationError, NetworkError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role
from neural_trader_server.oauth import (
    ASK_AGAIN_S,
    KEEP_AT_MOST_S,
    KEEP_S,
    LEEWAY_S,
    Keys,
    TokenReader,
    metadata_urls,
    require_safe,
)
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
ISSUER, RESOURCE = "https://login.example.com/realms/desk", "https://desk.example.com/mcp"
NOW = 1_790_000_000
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": RESOURCE,
    "sub": "owner",
    "client_id": "agent-1",
    "exp": NOW + 600,
    "iat": NOW,
    "scope": "openid neural-trader:trade",
}
RSA_KEY = rsa.generate_private_key(65537, 2048)
NEXT_KEY = rsa.generate_private_key(65537, 2048)
SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is the test
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


KINDS: dict[str, Any] = {"rsa": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}


class Fixed:
    def now(self) -> datetime:
        return datetime.fromtimestamp(NOW, UTC)


def public(key: Any, key_id: str, **extra: str) -> dict[str, Any]:
    kind = KINDS[key_id if key_id in KINDS else "rsa"]
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": key_id, **extra}


class Issuer:
    """An issuer on the other end of a transport; counts what it is asked."""

    def __init__(self) -> None:
        self.keys = [public(RSA_KEY, "rsa"), public(EC_KEY, "ec"), public(ED_KEY, "ed")]
        self.asked: list[str] = []
        self.metadata: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": "https://login.example.com/keys"}
        self.down = False
        self.seconds = 0.0
        transport = httpx.MockTransport(self.answer)
        self.found = Keys(ISSUER, None, lambda: self.seconds, transport)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.down:
            return httpx.Response(503)
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": self.keys})
        if request.url.path == "/.well-known/oauth-authorization-server/realms/desk":
            return httpx.Response(200, json=self.metadata)
        return httpx.Response(404)

    def reader(self, **settings: Any) -> TokenReader:
        return TokenReader(Settings(oauth_issuer=ISSUER, **settings), RESOURCE, self.found, Fixed())


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def token(key: Any = RSA_KEY, algorithm: str = "RS256", key_id: str | None = "rsa", **changed: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={} if key_id is None else {"kid": key_id})


def part(value: Mapping[str, Any] | bytes) -> str:
    plain = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def confused(secret: bytes, algorithm: str = "HS256") -> str:
    """A token whose HMAC is made with the public key, as the classic attack does."""
    signed = f"{part({'alg': algorithm, 'kid': 'rsa'})}.{part(CLAIMS)}"
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(signed.encode())
    return f"{signed}.{part(mac.finalize())}"


def pem(key: Any) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, kind)


async def refusal(issuer: Issuer, shown: str, **settings: Any) -> str:
    with pytest.raises(RiskError) as caught:
        await issuer.reader(**settings).read(shown)
    assert shown not in str(caught.value)
    return f"{caught.value.code}: {caught.value.what}"


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [(RSA_KEY, "RS256", "rsa"), (RSA_KEY, "PS256", "rsa"), (EC_KEY, "ES256", "ec"), (ED_KEY, "EdDSA", "ed")],
)
async def test_a_token_of_the_issuer_for_this_server_says_who_calls(
    issuer: Issuer, key: Any, algorithm: str, key_id: str
) -> None:
    bearer = await issuer.reader().read(token(key, algorithm, key_id))
    assert bearer.caller == Caller("owner", "agent-1")
    assert (bearer.reach.role, bearer.reach.toolsets) == (Role.TRADER, None)


FORGED: list[tuple[str, Callable[[], str], str]] = [
    ("no algorithm", lambda: f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(CLAIMS)}.", "its algorithm"),
    ("HMAC with the public key", lambda: confused(pem(RSA_KEY)), "its algorithm"),
    ("an algorithm in other case", lambda: confused(b"x", "nOnE"), "its algorithm"),
    ("an algorithm that is not pinned", lambda: token(algorithm="RS384"), "its algorithm"),
    ("another's key", lambda: token(NEXT_KEY), "its signature"),
    ("another's key in its head", lambda: jwt.encode(
        CLAIMS, NEXT_KEY, "RS256", headers={"kid": "rsa", "jwk": public(NEXT_KEY, "rsa")}
    ), "its signature"),
    ("a key of another kind", lambda: token(EC_KEY, "ES256", "rsa"), "no key of the issuer"),
    ("no key id among several", lambda: token(key_id=None), "no key of the issuer"),
    ("another audience", lambda: token(aud="https://other.example.com/mcp"), "it is for another server"),
    ("a longer audience", lambda: token(aud=f"{RESOURCE}/x"), "it is for another server"),
    ("no audience", lambda: token(aud=None), "it lacks"),
    ("another issuer", lambda: token(iss="https://evil.example.com"), "another issuer"),
    ("its issuer's longer name", lambda: token(iss=f"{ISSUER}/"), "another issuer"),
    ("no issuer", lambda: token(iss=None), "it lacks"),
    ("no end", lambda: token(exp=None), "it lacks"),
    ("an end that has been", lambda: token(exp=NOW - LEEWAY_S), "it has expired"),
    ("an end that is no time", lambda: token(exp=True), "its exp is no time"),
    ("a beginning to come", lambda: token(nbf=NOW + LEEWAY_S + 1), "it is not valid yet"),
    ("issued in the future", lambda: token(iat=NOW + LEEWAY_S + 1), "it is not valid yet"),
    ("nobody", lambda: token(sub=None), "it names nobody"),
    ("no agent", lambda: token(client_id=None), "it names nobody"),
    ("an empty agent", lambda: token(client_id=""), "it names nobody"),
    ("a name that is none", lambda: token(client_id="x\ny"), "its names are no names here"),
    ("changed claims", lambda: ".".join(
        [(parts := token().split("."))[0], part({**CLAIMS, "sub": "admin"}), parts[2]]
    ), "its signature"),
    ("no JWT", lambda: "abc", "it is no JWT"),
    ("too long", lambda: "x" * 20_000, "it is too long"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "why"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
async def test_whatever_is_wrong_with_a_token_refuses_it(
    issuer: Issuer, make: Callable[[], str], why: str
) -> None:
    assert (await refusal(issuer, make())).startswith(f"token_invalid: the access token is refused: {why}")


async def test_clocks_may_differ_by_the_leeway(issuer: Issuer) -> None:
    early = token(nbf=NOW + LEEWAY_S, iat=NOW + LEEWAY_S)
    late = token(exp=NOW - LEEWAY_S + 1)
    for each in (early, late):
        assert (await issuer.reader().read(each)).caller.agent == "agent-1"


@pytest.mark.parametrize(
    ("said", "role", "toolsets"),
    [
        ({"scope": "neural-trader:read"}, Role.READER, None),
        ({"scope": "neural-trader:read neural-trader:research"}, Role.RESEARCHER, None),
        ({"scope": None, "scp": ["neural-trader:trade"]}, Role.TRADER, None),
        (
            {"scope": "neural-trader:read neural-trader:toolset:market neural-trader:toolset:core"},
            Role.READER,
            frozenset({"market", "core"}),
        ),
    ],
)
async def test_scopes_say_how_far_a_token_reaches(
    issuer: Issuer, said: dict[str, Any], role: Role, toolsets: frozenset[str] | None
) -> None:
    reach = (await issuer.reader().read(token(**said))).reach
    assert (reach.role, reach.toolsets) == (role, toolsets)


@pytest.mark.parametrize(
    "scope", [None, "", "openid profile", "neural-trader:toolset:market", "neural-trader:TRADE"]
)
async def test_a_token_without_our_scopes_opens_nothing(issuer: Issuer, scope: str | None) -> None:
    assert (await refusal(issuer, token(scope=scope))).startswith("scope_missing: ")


async def test_names_of_the_issuer_are_mapped_to_ours_and_the_claims_chosen(issuer: Issuer) -> None:
    reader = issuer.reader(oauth_names={"00u1": "owner", "0oaX": "agent-2"}, oauth_principal_claim="uid")
    bearer = await reader.read(token(uid="00u1", client_id=None, azp="0oaX"))
    assert bearer.caller == Caller("owner", "agent-2")


async def test_keys_are_asked_for_once_then_kept_and_found_anew_when_the_issuer_turns_them(
    issuer: Issuer,
) -> None:
    reader = issuer.reader()
    for _ in range(5):
        await reader.read(token())
    assert issuer.asked == ["/.well-known/oauth-authorization-server/realms/desk", "/keys"]
    issuer.keys = [public(NEXT_KEY, "next")]
    turned = token(NEXT_KEY, key_id="next")
    assert "no key of the issuer" in await refusal(issuer, turned), "asked a moment ago"
    assert len(issuer.asked) == 2, "strangers' key ids do not have the issuer asked again and again"
    issuer.seconds += ASK_AGAIN_S
    assert (await reader.read(turned)).caller.agent == "agent-1"
    assert "no key of the issuer" in await refusal(issuer, token()), "the old key is gone"


async def test_an_issuer_that_is_down_is_done_without_for_a_day_and_no_longer(issuer: Issuer) -> None:
    reader = issuer.reader()
    issuer.down = True
    with pytest.raises(NetworkError, match="issuer_unreachable"):
        await reader.read(token())
    issuer.down = False
    issuer.seconds += ASK_AGAIN_S
    await reader.read(token())
    issuer.down = True
    issuer.seconds += KEEP_S + 1
    await reader.read(token())
    issuer.seconds += KEEP_AT_MOST_S
    with pytest.raises(NetworkError, match="issuer_unreachable"):
        await reader.read(token())


async def test_metadata_of_another_issuer_and_keys_from_an_open_address_are_not_believed(
    issuer: Issuer,
) -> None:
    for metadata in ({"issuer": "https://evil.example.com"}, {"jwks_uri": "http://login.example.com/keys"}):
        issuer.metadata = {"issuer": ISSUER, "jwks_uri": "https://login.example.com/keys", **metadata}
        issuer.seconds += ASK_AGAIN_S
        with pytest.raises(NetworkError):
            await issuer.reader().read(token())
        assert "/keys" not in issuer.asked


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_secrets_encryption_keys_and_short_keys_in_a_jwks_sign_nothing(issuer: Issuer) -> None:
    secret = {"kty": "oct", "kid": "oct", "k": part(b"s" * 32)}
    issuer.keys = [
        public(RSA_KEY, "rsa", use="enc"),
        secret,
        public(SHORT_KEY, "short"),
        public(EC_KEY, "ec"),
    ]
    assert "no key of the issuer" in await refusal(issuer, token())
    assert "does not verify" in await refusal(issuer, token(SHORT_KEY, key_id="short"))
    assert "its algorithm" in await refusal(
        issuer, jwt.encode(CLAIMS, b"s" * 32, "HS256", headers={"kid": "oct"})
    )


async def test_a_key_that_is_for_one_algorithm_is_for_no_other(issuer: Issuer) -> None:
    issuer.keys = [public(RSA_KEY, "rsa", alg="PS256")]
    assert "no key of the issuer" in await refusal(issuer, token())
    assert (await issuer.reader().read(token(algorithm="PS256", key_id=None))).caller.agent == "agent-1"


def test_an_issuer_is_encrypted_or_on_this_machine() -> None:
    assert require_safe("http://127.0.0.1:9000/realm") == "http://127.0.0.1:9000/realm"
    for bad in (
        "http://login.example.com",
        "ftp://127.0.0.1.evil",
        "https://",
        "https://user@login.example.com",
    ):
        with pytest.raises(ConfigurationError, match="issuer_not_safe"):
            require_safe(bad)


def test_metadata_is_looked_for_where_the_standards_say() -> None:
    assert metadata_urls("https://login.example.com") == (
        "https://login.example.com/.well-known/oauth-authorization-server",
        "https://login.example.com/.well-known/openid-configuration",
    )
    assert metadata_urls(ISSUER)[2] == f"{ISSUER}/.well-known/openid-configuration"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "hs512", "RS1"])
def test_settings_take_no_algorithm_that_a_public_key_could_be_the_secret_of(algorithm: str) -> None:
    with pytest.raises(ValueError, match="oauth_algorithms"):
        Settings(oauth_algorithms=(algorithm,))  # pyright: ignore[reportArgumentType]
