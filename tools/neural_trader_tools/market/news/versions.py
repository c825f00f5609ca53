"""Versions of an article: what one that arrives adds to what is stored of it, known from when."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from neural_trader_tools.market.news.articles import Article

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an article: its two times, and what makes another one differ from it."""

    event_time: datetime
    event_time_assumed: bool
    known_time: datetime
    content: str
    symbols: tuple[str, ...]


def version_of(
    article: Article, held: Version | None, now: datetime, *, known_when_published: bool
) -> Version | None:
    """Returns the version that an article adds; None where it says what is there already.

    Args:
        article: As it arrived.
        held: The newest version that is stored of it.
        now: When it arrived.
        known_when_published: Take a new article as known from its publication on.
    """
    symbols = article.symbols if held is None else tuple(sorted({*held.symbols, *article.symbols}))
    if held is not None and held.content == article.content and held.symbols == symbols:
        return None
    published = article.published
    # What is here was published by now: a time that lies ahead is no time of publication.
    if published is not None and published <= now:
        event_time, is_assumed = published, False
    else:
        event_time, is_assumed = (now if held is None else held.event_time), True
    if held is not None:
        known_time = max(now, held.known_time + _TICK)
    else:
        known_time = event_time if known_when_published else now
    return Version(event_time, is_assumed, known_time, article.content, symbols)


def row_of(
    article: Article, source: str, version: Version, document: str, now: datetime
) -> dict[str, object]:
    """Returns the version as a row of `articles.SCHEMA`."""
    return {
        "event_time": version.event_time,
        "known_time": version.known_time,
        "received_time": now,
        "article_id": article.article_id(source),
        "source": source,
        "item_id": article.item_id,
        "title": article.title,
        "text": article.text,
        "url": article.url,
        "symbols": list(version.symbols),
        "published_said": article.published_said,
        "event_time_assumed": version.event_time_assumed,
        "content": version.content,
        "document": document,
    }
