"""The front: which addresses are opened to whom, and under which names."""

from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.front import OwnNames, is_door_shut, is_private, own_names, require_reachable
from neural_trader_server.settings import Settings

TLS: dict[str, Any] = {"tls_certificate": Path("cert.pem"), "tls_key": Path("key.pem")}
PUBLIC = "https://desk.example.com"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_is_listened_on_as_it_is(host: str) -> None:
    require_reachable(host, Settings())
    assert is_door_shut(host, Settings()) is None, "from the first key on"
    assert is_private(host, Settings())


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("192.0.2.1", {}),
        ("example.com", {}),
        ("0.0.0.0", TLS),  # noqa: S104 - refused
        ("::", {"behind_tls_proxy": True}),
        ("", TLS),
        ("192.0.2.1", {**TLS, "require_api_key": False}),
        ("192.0.2.1", {"oauth_issuer": "https://login.example.com"}),
    ],
)
def test_a_public_address_without_encryption_door_or_name_is_refused(
    host: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="public_bind_refused"):
        require_reachable(host, Settings(**settings))


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("192.0.2.1", TLS),
        ("0.0.0.0", {**TLS, "public_url": PUBLIC}),  # noqa: S104 - with TLS and a door
        ("::", {"behind_tls_proxy": True, "public_url": PUBLIC}),
    ],
)
def test_a_public_address_is_opened_with_all_three_and_its_door_is_always_shut(
    host: str, settings: dict[str, Any]
) -> None:
    require_reachable(host, Settings(**settings))
    assert is_door_shut(host, Settings(**settings)) is True
    assert not is_private(host, Settings(**settings)), "/metrics needs a key"


@pytest.mark.parametrize(
    "settings",
    [
        {"oauth_issuer": "https://login.example.com"},
        {"tls_client_authority": Path("ca.pem")},
        {"public_url": PUBLIC},
        {"behind_tls_proxy": True},
    ],
)
def test_whoever_trusts_an_issuer_or_stands_behind_a_proxy_has_a_door_on_loopback_too(
    settings: dict[str, Any],
) -> None:
    assert is_door_shut("127.0.0.1", Settings(**settings)) is True


def test_names_are_loopbacks_the_address_and_the_public_one_and_never_the_address_of_all() -> None:
    names = own_names("0.0.0.0", Settings(public_url=PUBLIC))  # noqa: S104
    assert names.allowed_hosts == ["127.0.0.1:*", "localhost:*", "[::1]:*", "desk.example.com"]
    assert names.allowed_origins[-1] == PUBLIC
    assert own_names("192.0.2.1", Settings(**TLS)).allowed_origins[-1] == "https://192.0.2.1:*"
    assert own_names("fd00::1").allowed_hosts[-1] == "[fd00::1]:*"
    assert names.enable_dns_rebinding_protection


@pytest.mark.parametrize(
    "url", ["http://desk.example.com", "https://desk.example.com/path", "https://a@b", "desk.example.com"]
)
def test_a_public_url_is_https_and_nothing_but_an_address(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Settings(public_url=url)


@pytest.mark.anyio
async def test_blanks_around_a_headers_value_are_no_part_of_it() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["headers"])

    async def nothing(*_: object) -> Any:
        raise AssertionError("nobody reads or answers here")

    sent = [(b"host", b" localhost:1\t "), (b"mcp-name", b"  a b "), (b"x-empty", b"")]
    scope: Scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": sent}
    await OwnNames(app, own_names("127.0.0.1"))(scope, nothing, nothing)
    assert seen == [[(b"host", b"localhost:1"), (b"mcp-name", b"a b"), (b"x-empty", b"")]]
