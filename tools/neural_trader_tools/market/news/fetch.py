"""Fetching a feed's document over HTTP, by the rules of every other service, without a key."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_tools.market.providers.service import Answer, RestService
from neural_trader_tools.market.providers.settings import MEBIBYTE, ServiceSettings
from neural_trader_tools.market.providers.standing import Standing

ACCEPT = "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.8"
ADDRESS_MAX = 2_000
SECRET_MIN = 6


class FeedSettings(ServiceSettings):
    """How feeds are asked; no key is involved, so plain http is let through."""

    url: str = ""
    requests_per_minute: int = Field(default=30, ge=0, le=1_000_000)
    body_bytes_max: int = Field(default=8 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE)


@dataclass(frozen=True, slots=True)
class FeedAddress:
    """Where a feed is.

    Attributes:
        origin: Scheme, host and port.
        path: With its query.
        query: Perhaps with a token in it: never said, never kept.
        host: Its name.
        public: The address without its query, in whose place stands a digest of it.
    """

    origin: str
    path: str
    query: str
    host: str
    public: str


class _FeedServer(RestService):
    """One feed's server; its refusals are said in a reader's words."""

    def refuse(self, status: int, said: str) -> NoReturn:
        """Raises what a status other than 200 means."""
        why = f"{status}{f': {said}' if said else ''}"
        if 300 <= status < 400:
            raise DataError(
                "feed_moved",
                f"the feed's server answers {why}; no redirect is followed",
                "look at that address, and import it if it is the feed",
            )
        if status in {400, 401, 402, 403, 404, 410}:
            raise DataError(
                "feed_refused", f"the feed's server refuses ({why})", "check the address in a browser"
            )
        super().refuse(status, said)


def feed_address(url: str) -> FeedAddress:
    """Reads a feed's address.

    Raises:
        InputError: `feed_address_invalid`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    plain = url.isascii() and url.isprintable() and " " not in url
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or parts.username
        or not plain
        or len(url) > ADDRESS_MAX
    ):
        raise InputError(
            "feed_address_invalid",
            f"{url.partition('?')[0]!r:.100} is no address of a feed",
            "give http:// or https://, a host and a path, in ASCII, without a user name",
        )
    named = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{named}{'' if port is None else f':{port}'}"
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    mark = f"#{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}" if query else ""
    return FeedAddress(origin, path + query, parts.query, host, f"{origin}{path}"[:280] + mark)


async def fetch_feed(root: Path, address: FeedAddress, settings: FeedSettings) -> Answer[bytes]:
    """Returns a feed's document as it was received, and its digest.

    Args:
        root: The archive's folder, where it is kept how the feed's server stands.
        address: Of the feed.
        settings: Of all feeds; the address is set here.

    Raises:
        NetworkError: it cannot be reached or fails, after every attempt; or its circuit is open.
        DataError: it has moved, refuses, or sends more than `body_bytes_max`.
    """
    standing = Standing(root, _standing_name(address.host), settings.requests_per_minute)
    service = _FeedServer(
        "the feed",
        settings.model_copy(update={"url": address.origin}),
        headers={"User-Agent": "neural-trader"},
        secrets=_secrets(address.query),
        key_advice="give an address that needs no key",
        breaker=standing.breaker,
        budget=standing.budget,
        on_change=standing.changed,
        accept=ACCEPT,
        unreachable_advice="check the address, and this machine's network",
    )
    try:
        return await service.read(address.path, None, lambda body: body)
    except DataError as error:
        if error.code != "provider_answer_too_long":
            raise
        raise DataError(
            "feed_too_long", error.what, "take another feed; this one is none, or is broken"
        ) from None
    finally:
        await service.aclose()
        await standing.close()


def _secrets(query: str) -> tuple[str, ...]:
    """Returns what a server may not be quoted with: the query, and each longer value in it."""
    values = (value for _, value in parse_qsl(query))
    return tuple(each for each in (query, *values) if len(each) >= SECRET_MIN)


def _standing_name(host: str) -> str:
    """Returns the name under which a host's circuit and budget are kept."""
    plain = "".join(each if each.isalnum() and each.isascii() else "-" for each in host.lower())
    return f"rss-{plain[-36:]}"
