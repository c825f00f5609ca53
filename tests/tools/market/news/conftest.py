"""Articles, and an archive of them with a clock in the test's hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.news.archive import NewsArchive, NewsWritten
from neural_trader_tools.market.news.articles import Article, bounded
from neural_trader_tools.market.news.manifest import NewsSource

MakeArticle = Callable[..., Article]
Import = Callable[..., NewsWritten]
"""`put(article, …, at="2026-01-02T12:00Z")`: written to the test's archive as received then."""


@pytest.fixture
def news(tmp_path: Path) -> NewsArchive:
    return NewsArchive(tmp_path / "archive")


@pytest.fixture
def article() -> MakeArticle:
    """`article("id", "title", published="2026-01-02T12:00:00Z", …)`."""

    def make(
        item_id: str = "1", title: str = "Apple buys a bank", published: str = "", **more: Any
    ) -> Article:
        moment = parse_time(published) if published else None
        given: dict[str, Any] = {"text": "", "published": moment, "published_said": published, **more}
        return bounded(Article(item_id, title, **given))

    return make


@pytest.fixture
def put(news: NewsArchive) -> Import:
    def write(*articles: Article, at: str, source: str = "wire", **more: Any) -> NewsWritten:
        now = parse_time(at)
        origin = NewsSource(name=source, kind="file", address="wire.jsonl", licence="test", received_time=now)
        return news.write(articles, origin, "ab" * 32, now, **more)

    return write
