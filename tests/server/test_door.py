"""The door, with everything before and behind it: a real web server, real certificates, real tokens."""

import ipaddress
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from jwt.algorithms import ECAlgorithm
from tests.hosted import hosted

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.identity import Caller
from neural_trader_server import connections
from neural_trader_server.connections import caller_of_certificate, tls_context
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28"}
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def ask(http: httpx.AsyncClient, method: str, **params: Any) -> httpx.Response:
    """Posts one request of the newer protocol."""
    headers = {**MODERN, "Mcp-Method": method, **({"Mcp-Name": params["name"]} if "name" in params else {})}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    return await http.post("/mcp", json=body, headers=headers)


async def tools(http: httpx.AsyncClient) -> set[str]:
    return {tool["name"] for tool in (await ask(http, "tools/list")).json()["result"]["tools"]}


async def said(http: httpx.AsyncClient, name: str, **arguments: Any) -> str:
    answer = (await ask(http, "tools/call", name=name, arguments=arguments)).json()
    return str(answer["result"]["content"][0]["text"])


@dataclass
class Issuer:
    """An OAuth issuer, on a transport that stands for its address."""

    url: str = "https://login.example.com"

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    def answer(self, request: httpx.Request) -> httpx.Response:
        jwk = {**ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": "1"}
        if request.url.path == "/.well-known/oauth-authorization-server":
            return httpx.Response(200, json={"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        return httpx.Response(200, json={"keys": [jwk]})

    def token(self, audience: str, scope: str, **changed: Any) -> dict[str, str]:
        end = int(datetime.now(UTC).timestamp()) + 600
        claims = {"iss": self.url, "aud": audience, "sub": "owner", "client_id": "agent-1", "exp": end}
        made = jwt.encode({**claims, "scope": scope, **changed}, self.key, "ES256", headers={"kid": "1"})
        return {"Authorization": f"Bearer {made}"}


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """An issuer whose address the server reaches; everything else of the network is as it is."""
    one = Issuer()
    real = httpx.AsyncHTTPTransport.handle_async_request

    async def handle(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example.com":
            return one.answer(request)
        return await real(transport, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
    return one


async def test_a_client_learns_of_the_issuer_and_its_token_opens_what_its_scopes_reach(
    home: Home, issuer: Issuer
) -> None:
    async with hosted(home, oauth_issuer=issuer.url) as address, httpx.AsyncClient(base_url=address) as http:
        resource = f"{address}/mcp"
        nobody = await ask(http, "tools/list")
        assert nobody.status_code == 401
        where = f"{address}/.well-known/oauth-protected-resource/mcp"
        assert nobody.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{where}"'
        metadata = (await http.get(where)).json()
        assert (metadata["resource"], metadata["authorization_servers"]) == (resource, [issuer.url])
        assert "neural-trader:trade" in metadata["scopes_supported"]

        http.headers.update(issuer.token(resource, "neural-trader:trade"))
        assert {"orders_submit", "memory_write", "status_get"} <= await tools(http)
        http.headers.update(issuer.token(resource, "neural-trader:read"))
        served = await tools(http)
        assert {"status_get", "trading_halt", "portfolio_get"} <= served
        assert served & {"orders_submit", "memory_write", "backtest_start"} == set()
        assert (await said(http, "memory_write", kind="note", text="x")).startswith("scope_not_enough: ")
        http.headers.update(issuer.token(resource, "neural-trader:trade neural-trader:toolset:market"))
        assert {name.partition("_")[0] for name in await tools(http)} == {"market", "trading"}
        assert (await said(http, "portfolio_get")).startswith("scope_not_enough: portfolio_get")
        read = await ask(http, "resources/read", uri="news://latest", name="news://latest")
        assert "scope_not_enough" not in read.text
        assert (
            "scope_not_enough" in (await ask(http, "resources/read", uri="audit://x", name="audit://x")).text
        )
        assert (await said(http, "trading_halt", reason="drill", symbol="AAPL")).startswith("{"), (
            "always served"
        )

        http.headers.update(issuer.token(resource, "neural-trader:trade", sub="stranger"))
        assert await tools(http) == {"status_get", "trading_halt"}, "a token enrols nobody"
        for headers, status, code in (
            (issuer.token("https://other.example.com/mcp", "neural-trader:trade"), 401, "token_invalid"),
            (issuer.token(resource, "openid"), 403, "scope_missing"),
            ({"Authorization": "Bearer ntk_0123456789ab_" + "x" * 43}, 401, "key_invalid"),
        ):
            refused = await http.post("/mcp", json={}, headers={**MODERN, **headers})
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


async def test_metrics_need_a_key_where_a_proxy_stands_before_and_guessers_wait(home: Home) -> None:
    async with (
        hosted(home, public_url="https://desk.example.com") as address,
        httpx.AsyncClient(base_url=address) as http,
    ):
        for path in (
            "/metrics",
            "/mcp",
            "/consoles",
            "/console/api/orders",
            "/",
            "/healthzz",
            "/healthz/../mcp",
            "/.well-known/x",
        ):
            assert (await http.get(path)).status_code == 401, path
        assert (await http.get("/healthz")).status_code == 200
        named = {"Host": "desk.example.com", "Origin": "https://desk.example.com"}
        assert (await http.get("/healthz", headers=named)).status_code == 200
        for foreign in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": "0.0.0.0:80"}):
            assert (await http.get("/healthz", headers=foreign)).status_code in {403, 421}
        answers = [(await http.get("/mcp", headers={"Authorization": "Bearer x"})) for _ in range(40)]
        assert [each.status_code for each in answers[:5]] == [401] * 5
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await http.get("/healthz")).status_code == 200


async def test_a_head_that_never_ends_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.05)
    async with hosted(home) as address:
        port = int(address.rpartition(":")[2])
        for begun in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                if begun:
                    await stream.send(begun)
                with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            with anyio.fail_after(10):
                await stream.send(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 OK")
                await stream.send(b"GET /heal")  # a second head on a connection that served one
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def sign(self, file: str, purpose: x509.ObjectIdentifier, **fields: str) -> tuple[Path, Path]:
        """Returns a certificate's file and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
        subject = x509.Name([x509.NameAttribute(oids[name], value) for name, value in fields.items()])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)])
        made = self._builder(subject, key).add_extension(names, False)
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), False).sign(self._key, hashes.SHA256())
        certificate, private = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
        return certificate, private


LOOPBACK = ipaddress.ip_address("127.0.0.1")
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


async def test_a_certificate_of_the_authority_says_who_calls_and_no_other_gets_in(
    home: Home, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    certificate, key = ours.sign("server", SERVER, CN="localhost")
    settings: dict[str, Any] = {"tls_certificate": certificate, "tls_key": key}
    settings["tls_client_authority"] = ours.path

    def shown(*pair: Path) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=str(ours.path))
        if pair:
            context.load_cert_chain(pair[0], pair[1])
        return httpx.AsyncClient(base_url=address, verify=context)

    async with hosted(home, **settings) as address:
        async with shown(*ours.sign("agent", CLIENT, O="owner", CN="agent-1")) as http:
            assert "orders_submit" in await tools(http)
            bad = await http.get("/mcp", headers={"Authorization": "Bearer x"})
            assert bad.status_code == 401, "what was shown besides must be good, too"
        async with shown(*ours.sign("stranger", CLIENT, O="owner", CN="stranger")) as http:
            assert await tools(http) == {"status_get", "trading_halt"}
        async with shown(*ours.sign("nameless", CLIENT, CN="agent-1")) as http:
            refused = await http.get("/mcp")
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "certificate_invalid")
        for pair in (
            (),
            others.sign("other", CLIENT, O="owner", CN="agent-1"),
            ours.sign("wrong", SERVER, O="owner", CN="agent-1"),
        ):
            async with shown(*pair) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get("/healthz")
        with pytest.raises(httpx.TransportError):
            await httpx.AsyncClient().get(address.replace("https", "http") + "/healthz")


def test_a_subject_that_names_nobody_or_two_is_refused() -> None:
    def subject(*pairs: tuple[str, str]) -> dict[str, Any]:
        return {"subject": tuple(((pair),) for pair in pairs)}

    owner, agent = ("organizationName", "owner"), ("commonName", "agent-1")
    assert caller_of_certificate(subject(owner, agent)) == Caller("owner", "agent-1")
    for bad in (
        (agent,),
        (owner,),
        (owner, agent, ("commonName", "agent-2")),
        (),
        (owner, ("commonName", "a\n")),
    ):
        with pytest.raises(InputError):
            caller_of_certificate(subject(*bad))


def test_tls_files_that_cannot_be_used_are_named_before_anything_listens(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "ours").sign("server", SERVER, CN="localhost")
    other = Authority(tmp_path, "more").sign("other", SERVER, CN="localhost")[1]
    (tmp_path / "text.pem").write_text(json.dumps("no PEM"))
    broken: tuple[dict[str, Any], ...] = (
        {"tls_key": key},
        {"tls_client_authority": certificate},
        {"tls_certificate": tmp_path / "nothing.pem"},
        {"tls_certificate": certificate, "tls_key": other},
        {"tls_certificate": certificate, "tls_key": key, "tls_client_authority": tmp_path / "text.pem"},
    )
    for settings in broken:
        with pytest.raises(ConfigurationError, match="tls_"):
            tls_context(Settings(**settings))
    assert tls_context(Settings()) is None
