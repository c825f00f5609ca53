"""Articles: texts about markets, each with where it came from and the two times of everything in the archive.

`event_time` is when a text was published, as its source says; `known_time` when that version of it reached
this desk. A changed text is a new row. All of it was written by strangers: what shows it is `page.py`, which
marks it as such.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_tools.market.frames import UTC_MICROSECONDS

TITLE_MAX = 500
TEXT_MAX = 50_000
URL_MAX = 1_000
SYMBOLS_MAX = 50
SCHEMA = pl.Schema(
    {
        "event_time": UTC_MICROSECONDS,
        "known_time": UTC_MICROSECONDS,
        "received_time": UTC_MICROSECONDS,
        "article_id": pl.String(),
        "source": pl.String(),
        "item_id": pl.String(),
        "title": pl.String(),
        "text": pl.String(),
        "url": pl.String(),
        "symbols": pl.List(pl.String),
        "published_said": pl.String(),
        "event_time_assumed": pl.Boolean(),
        "content": pl.String(),
        "document": pl.String(),
    }
)
"""`content`: SHA-256 of what the source said, the same for the same words. `document`: of the bytes that they
came in, as received. `known_time` before `received_time` was assumed, by whoever imported it."""


@dataclass(frozen=True, slots=True)
class Article:
    """One version of one text.

    Attributes:
        item_id: The source's own name for it, else a digest of the text.
        title: One line, perhaps empty.
        text: Plain, without markup.
        url: Where it can be read; http(s) or empty.
        published: When it was published, as far as that can be read.
        published_said: The source's own words for that.
        symbols: As whoever imports it said; nothing is guessed from the words.
        is_cut: Title or text were longer than the archive keeps.
    """

    item_id: str
    title: str
    text: str
    url: str = ""
    published: datetime | None = None
    published_said: str = ""
    symbols: tuple[str, ...] = ()
    is_cut: bool = False

    @property
    def content(self) -> str:
        """Hex SHA-256 of what the source said."""
        return _digest(self.title, self.text, self.url, self.published_said)

    def article_id(self, source: str) -> str:
        """Returns the archive's name for every version of it: 16 hex digits."""
        return _digest(source, self.item_id)[:16]


def bounded(article: Article) -> Article:
    """Returns the article within the archive's bounds: plain letters on sane lines, cut, with an id.

    Raises:
        ValueError: it has neither a title nor a text.
    """
    title = _one_line(article.title)
    lines = (" ".join(line.split()) for line in _plain(article.text).split("\n"))
    text = "\n".join(line for line in lines if line)
    if not title and not text:
        raise ValueError("neither a title nor a text")
    url = article.url.strip()
    if not re.fullmatch(r"https?://[!-~]+", url, re.IGNORECASE) or len(url) > URL_MAX:
        url = ""
    item_id = _one_line(article.item_id) or _digest(title, text, url)
    return replace(
        article,
        item_id=item_id if len(item_id) <= URL_MAX else _digest(item_id),
        title=title[:TITLE_MAX],
        text=text[:TEXT_MAX],
        url=url,
        published_said=_one_line(article.published_said),
        symbols=tuple(sorted(set(article.symbols))),
        is_cut=len(title) > TITLE_MAX or len(text) > TEXT_MAX,
    )


def checked_symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    """Returns the symbols, sorted, each once.

    Raises:
        InputError: one of them is none, or they are too many.
    """
    found = tuple(sorted(set(symbols)))
    for symbol in found:
        if not re.fullmatch(SYMBOL_PATTERN, symbol):
            raise InputError(
                "invalid_symbol",
                f"{symbol!r:.40} is no symbol",
                "use up to 16 of A-Z 0-9 . - / ^ =, upper case, such as AAPL or BTC/USD",
            )
    if len(found) > SYMBOLS_MAX:
        raise InputError("invalid_symbols", f"{len(found)} symbols were given", f"give up to {SYMBOLS_MAX}")
    return found


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _one_line(text: str) -> str:
    return " ".join(_plain(text).split())


def _plain(text: str) -> str:
    """Returns the text without lone surrogates and control characters, but for line ends and tabs."""
    whole = text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", whole)
