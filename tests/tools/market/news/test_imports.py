"""Imports of feeds and files together: over HTTP on this machine, with everything that a server can do."""

import gzip
import hashlib
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.tools.market.loopback.server import Fault, Loopback

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_governance.terms.clocks import SimulatedClock, parse_time
from neural_trader_governance.untrusted.readings import Source, collecting
from neural_trader_tools.market.news.archive import NewsArchive
from neural_trader_tools.market.news.fetch import FeedSettings
from neural_trader_tools.market.news.imports import ImportWords, NewsReport, import_news
from neural_trader_tools.market.news.page import find_news, show_article

SETTINGS = FeedSettings(attempts_max=2, retry_wait_s=0, requests_per_minute=0, body_bytes_max=1 << 20)
CLOSED = "http://127.0.0.1:1/feed"


class FeedLoopback(Loopback):
    """One feed, whose document a test writes."""

    def __init__(self) -> None:
        super().__init__([Route("/feed", self._feed)])

    def reset(self) -> None:
        """Forget what tests did."""
        super().reset()
        self.titles = ["Apple buys a bank"]

    @property
    def document(self) -> bytes:
        """As it is served now."""
        items = "".join(
            f"<item><guid>{number}</guid><title>{title}</title>"
            "<pubDate>Fri, 02 Jan 2026 12:00:00 GMT</pubDate></item>"
            for number, title in enumerate(self.titles)
        )
        return f"<rss><channel>{items}</channel></rss>".encode()

    async def _feed(self, _: Request) -> Response:
        return Response(self.document)


@pytest.fixture(scope="module")
def served() -> Generator[FeedLoopback]:
    server = FeedLoopback()
    with server.serve():
        yield server


@pytest.fixture
def feed(served: FeedLoopback) -> FeedLoopback:
    served.reset()
    return served


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(parse_time("2026-01-05T00:00:00Z"))


def imported(news: NewsArchive, clock: SimulatedClock, *places: str, **words: Any) -> list[NewsReport]:
    async def run() -> list[NewsReport]:
        return [one async for one in import_news(news, places, ImportWords(**words), SETTINGS, clock)]

    return anyio.run(run)


def test_a_feed_is_fetched_revised_and_kept_with_where_it_came_from(
    news: NewsArchive, clock: SimulatedClock, feed: FeedLoopback
) -> None:
    address = f"{feed.url}/feed?token=s3cret-t0ken"
    [first] = imported(news, clock, address, symbols=("AAPL",))
    assert (first.error, first.written.rows_new) == ("", 1)
    assert first.document == hashlib.sha256(feed.document).hexdigest()
    assert first.address.startswith(f"{feed.url}/feed#")
    clock.advance_to(parse_time("2026-01-06T00:00:00Z"))
    assert imported(news, clock, address, symbols=("AAPL",))[0].written.rows_unchanged == 1
    feed.titles = ["Apple denies it"]
    [changed] = imported(news, clock, address, symbols=("AAPL",))
    assert (changed.written.rows_new, changed.written.rows_revised) == (0, 1)
    page = find_news(news, symbols=["AAPL"], as_of=parse_time("2026-01-05T12:00:00Z"))
    [one] = page.articles
    assert (one.title, one.document, one.source) == ("Apple buys a bank", first.document, first.address)
    assert news.sources()[one.source].licence.startswith("unknown")
    feed.faults = [Fault(status=404, body=b"the token s3cret-t0ken is not valid")]
    [refused] = imported(news, clock, address)
    assert "the token [redacted] is not valid" in refused.error
    everything = b"".join(path.read_bytes() for path in news.root.rglob("*") if path.is_file())
    assert b"s3cret-t0ken" not in everything


def test_what_fails_says_why_and_keeps_nothing_else_out(
    news: NewsArchive, clock: SimulatedClock, feed: FeedLoopback, tmp_path: Path
) -> None:
    file = tmp_path / "wire.jsonl"
    file.write_text('{"id": 1, "title": "good"}\n{"id": 2}\n')
    damaged = tmp_path / "cut.xml"
    damaged.write_bytes(feed.document[:-9])
    reports = imported(news, clock, CLOSED, str(damaged), f"{feed.url}/none", str(file), f"{feed.url}/feed")
    assert [(one.code, one.written.rows_new) for one in reports] == [
        ("provider_unreachable", 0),
        ("feed_malformed", 0),
        ("feed_refused", 0),
        ("", 1),
        ("", 1),
    ]
    kept = reports[3]
    assert (kept.rows_quarantined, kept.quarantined[0].line) == (1, 2)
    assert kept.quarantine_file is not None
    assert "neither a title nor a text" in (news.root / kept.quarantine_file).read_text()
    assert [one.title for one in find_news(news).articles] == ["good", "Apple buys a bank"]


BOMB = gzip.compress(b"<rss>" + b" " * (20 << 20))


@pytest.mark.parametrize(
    ("fault", "code", "times"),
    [
        (Fault(flood_bytes=100 << 20), "feed_too_long", 1),
        (Fault(body=BOMB, headers={"content-encoding": "gzip"}), "feed_too_long", 1),
        (Fault(status=301, headers={"location": "http://elsewhere.example/"}), "feed_moved", 1),
        (Fault(status=404), "feed_refused", 1),
        (Fault(body=b"<html>hello</html>"), "feed_malformed", 1),
        (Fault(body=b""), "feed_malformed", 1),
        (Fault(cut_after=60), "feed_malformed", 1),
        (Fault(status=503), "provider_failed", 2),
        (Fault(drop_after=40), "provider_connection_lost", 2),
    ],
)
def test_a_server_that_misbehaves_is_a_clear_error_and_changes_nothing(
    news: NewsArchive, clock: SimulatedClock, feed: FeedLoopback, fault: Fault, code: str, times: int
) -> None:
    feed.faults = [replace(fault, times=times)]
    [report] = imported(news, clock, f"{feed.url}/feed")
    assert report.code == code, report.error
    assert feed.faults[0].times == 0, "it was asked as often as it should be"
    assert find_news(news).matched == 0
    assert imported(news, clock, f"{feed.url}/feed")[0].error == ""


def test_a_server_that_keeps_failing_is_left_alone(
    news: NewsArchive, clock: SimulatedClock, feed: FeedLoopback
) -> None:
    feed.faults = [Fault(status=500, times=-1)]
    codes = [imported(news, clock, f"{feed.url}/feed")[0].code for _ in range(4)]
    assert codes[0] == "provider_failed"
    assert codes[-1] == "provider_circuit_open"
    assert (news.root / "providers" / "rss-127-0-0-1.json").exists()


@pytest.mark.parametrize(
    ("places", "words", "code"),
    [
        (["ftp://x.example/feed"], {}, "feed_address_invalid"),
        (["https://user:secret@x.example/feed"], {}, "feed_address_invalid"),
        (["https://[::1/feed"], {}, "feed_address_invalid"),
        (["https://bücher.example/feed"], {}, "feed_address_invalid"),
        ([], {}, "invalid_places"),
        ([CLOSED] * 201, {}, "invalid_places"),
        ([CLOSED], {"symbols": ("Äpfel",)}, "invalid_symbol"),
        ([CLOSED], {"time_zone": "Mars/Olympus"}, "unknown_time_zone"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_imported(
    news: NewsArchive, clock: SimulatedClock, places: list[str], words: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        imported(news, clock, *places, **words)
    assert refused.value.code == code
    assert not news.root.exists()


def test_every_word_of_a_stranger_that_is_shown_is_exposed(
    news: NewsArchive, clock: SimulatedClock, tmp_path: Path
) -> None:
    file = tmp_path / "wire.jsonl"
    strange = {"id": "the id", "title": "the title", "url": "https://x.example/the-url", "text": "t" * 999}
    file.write_text(str(strange).replace("'", '"'))
    [report] = imported(news, clock, str(file))
    assert report.error == ""
    with collecting() as readings:
        page = find_news(news)
    [reading] = readings
    assert reading.source is Source.NEWS
    assert page.untrusted
    [one] = page.articles
    assert one.text == "t" * 280 + " …"
    assert all(words in reading.text for words in (one.title, one.text, one.url, one.item_id))
    with collecting() as readings:
        show_article(news, one.article_id)
    assert "t" * 999 in readings[0].text
    with pytest.raises(NeuralTraderError, match="article_unknown"):
        show_article(news, "none")
    for limit in (0, 201):
        with pytest.raises(InputError, match="invalid_limit"):
            find_news(news, limit=limit)
