"""Imports of articles from files and feeds: each source on its own, so that one that fails keeps none out."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.files import Rejected
from neural_trader_tools.market.ingest import SHOWN_MAX, QuarantinedRow, write_quarantine
from neural_trader_tools.market.news.archive import NewsArchive, NewsWritten
from neural_trader_tools.market.news.articles import checked_symbols
from neural_trader_tools.market.news.feeds import read_feed
from neural_trader_tools.market.news.fetch import FeedSettings, feed_address, fetch_feed
from neural_trader_tools.market.news.files import NewsFile, read_news_file
from neural_trader_tools.market.news.manifest import NewsSource
from neural_trader_tools.market.times import check_zone
from neural_trader_tools.telling import tell

PLACES_MAX = 200
LICENCE = "unknown: the publisher's terms; for your own use"


class ImportWords(Term):
    """What whoever imports says about the articles.

    Attributes:
        symbols: That all of them are about, beside those that a file names.
        source: What they are kept under; by default the feed's address, or the file's name.
        licence: Their terms.
        time_zone: Of times without an offset.
        known_when_published: Take new ones as known from their publication on, though they are received now.
    """

    symbols: tuple[str, ...] = ()
    source: str = Field(default="", max_length=300)
    licence: str = Field(default=LICENCE, max_length=400)
    time_zone: str = "UTC"
    known_when_published: bool = False


class NewsReport(Term):
    """What became of one file or feed."""

    source: str
    address: str
    document: str = Field(default="", description="SHA-256 of the bytes as received")
    written: NewsWritten = NewsWritten()
    rows_quarantined: int = 0
    quarantine_file: str | None = None
    quarantined: list[QuarantinedRow] = Field(
        default_factory=list[QuarantinedRow], description="The first 20"
    )
    notes: list[str] = Field(default_factory=list[str])
    code: str = Field(default="", description="Of the error, where it failed")
    error: str = Field(default="", description="`code: what; next step`")


def is_address(place: str) -> bool:
    """Tells an address from the path of a file."""
    return "://" in place


async def import_news(
    archive: NewsArchive, places: Sequence[str], words: ImportWords, settings: FeedSettings, clock: Clock
) -> AsyncGenerator[NewsReport]:
    """Imports files and feeds and reports each; what was kept stays kept where a later one fails.

    Args:
        archive: Of articles.
        places: Paths of files, and http(s) addresses of feeds.
        words: What is said about all of them.
        settings: Of feeds.
        clock: Says when they are received.

    Raises:
        InputError: no place, too many, an address, a symbol or a zone that is none; nothing is imported.
    """
    checked_symbols(words.symbols)
    check_zone(words.time_zone)
    if not 1 <= len(places) <= PLACES_MAX:
        raise InputError(
            "invalid_places", f"{len(places)} files and feeds were given", f"give 1 to {PLACES_MAX}"
        )
    for place in filter(is_address, places):
        feed_address(place)
    for done, place in enumerate(places):
        await tell(done / len(places))
        yield await _imported(archive, place, words, settings, clock)


async def _imported(
    archive: NewsArchive, place: str, words: ImportWords, settings: FeedSettings, clock: Clock
) -> NewsReport:
    kind = "feed" if is_address(place) else "file"
    address = feed_address(place).public if kind == "feed" else Path(place).name[:300]
    report = NewsReport(source=words.source or address, address=address)
    try:
        if kind == "feed":
            answer = await fetch_feed(archive.root, feed_address(place), settings)
            now = clock.now()
            feed = await anyio.to_thread.run_sync(read_feed, answer.value, words.symbols, words.time_zone)
            found = NewsFile(feed.articles, answer.digest, notes=feed.notes)
        else:
            now = clock.now()
            found = await anyio.to_thread.run_sync(
                read_news_file, Path(place), words.symbols, words.time_zone
            )
        source = NewsSource(
            name=report.source, kind=kind, address=address, licence=words.licence, received_time=now
        )

        def keep() -> NewsReport:
            written = archive.write(
                found.articles,
                source,
                found.digest,
                now,
                known_when_published=words.known_when_published,
            )
            file = write_quarantine(archive.root, "news", "items", found.digest, found.rejected)
            return report.model_copy(
                update={
                    "document": found.digest,
                    "written": written,
                    "rows_quarantined": len(found.rejected),
                    "quarantine_file": file,
                    "quarantined": [_shown(one) for one in found.rejected[:SHOWN_MAX]],
                    "notes": found.notes,
                }
            )

        return await anyio.to_thread.run_sync(keep)
    except NeuralTraderError as error:
        return report.model_copy(update={"code": error.code, "error": str(error)})


def _shown(rejected: Rejected) -> QuarantinedRow:
    return QuarantinedRow(line=rejected.line, reason=rejected.reason)
