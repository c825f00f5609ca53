"""Feeds: RSS 0.9x, 1.0 and 2.0 and Atom 1.0, read with the standard library's expat.

The document is a stranger's. Nothing outside it is ever read; a document that declares entities is refused
(by them documents grow without bound, or read files); depth, items and lengths are bounded.
"""

import codecs
import contextlib
import re
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.news.articles import Article, bounded
from neural_trader_tools.market.news.dates import SAID_MAX, read_published
from neural_trader_tools.market.news.markup import plain_text

ITEMS_MAX = 5_000
FIELD_MAX = 500_000
DEPTH_MAX = 100
_PLAIN: Final = (
    "",
    "http://www.w3.org/2005/Atom",
    "http://purl.org/rss/1.0/",
    "http://my.netscape.com/rdf/simple/0.9/",
    "http://backend.userland.com/rss2",
)
_NAMES: Final = (
    *("title", "link", "guid", "id", "pubDate", "published", "issued", "updated"),
    *("description", "summary", "content"),
)
_FIELDS: Final = {
    **{(space, name): name for space in _PLAIN for name in _NAMES},
    ("http://purl.org/rss/1.0/modules/content/", "encoded"): "content",
    ("http://purl.org/dc/elements/1.1/", "date"): "date",
}
_CODECS = re.compile(
    r"utf-?8(-sig)?|utf-?16([lb]e)?|(us-)?ascii|latin-?1|iso-?8859-\d{1,2}|(windows-|cp)125\d|koi8-[ru]"
    r"|gb2312|gbk|gb18030|big5(-hkscs)?|shift_jis|euc-(jp|kr)",
    re.IGNORECASE,
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(slots=True)
class Feed:
    """What a document held."""

    articles: list[Article]
    notes: list[str] = field(default_factory=list[str])


def read_feed(document: bytes, symbols: tuple[str, ...] = (), zone: str = "UTC") -> Feed:
    """Reads a feed's document.

    Args:
        document: As it was received.
        symbols: Attached to each article.
        zone: Of times without an offset.

    Raises:
        DataError: `feed_malformed`, it is no well-formed RSS or Atom; `feed_entities`, it declares some.
    """
    text, notes = _decoded(document)
    reading = _Reading()
    try:
        reading.parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise _malformed(
            f"the document is no well-formed XML (line {error.lineno}: {expat.ErrorString(error.code)})"
        ) from None
    articles: list[Article] = []
    for fields in reading.items:
        with contextlib.suppress(ValueError):
            articles.append(bounded(_article(fields, symbols, zone)))
    if len(articles) < len(reading.items):
        notes.append(f"{len(reading.items) - len(articles)} items have neither a title nor a text")
    if reading.left_out:
        notes.append(f"{reading.left_out} items beyond the first {ITEMS_MAX} were left out")
    unread = sum(1 for one in articles if one.published is None and one.published_said)
    if unread:
        notes.append(f"{unread} times of publication could not be read: that of the receipt was taken")
    return Feed(articles, notes)


class _Reading:
    """Collects the items of one document while expat goes through it."""

    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []
        self.left_out = 0
        self._depth: int = 0
        self._item: dict[str, str] | None = None
        self._item_depth: int = 0
        self._field = ""
        self._pieces: list[str] = []
        self._room = 0
        self.parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.EntityDeclHandler = _refuse_entity
        self.parser.ExternalEntityRefHandler = _refuse_entity
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        space, _, local = name.rpartition(" ")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _malformed(f"elements are nested deeper than {DEPTH_MAX}")
        if self._depth == 1 and local not in {"rss", "RDF", "feed"}:
            raise _malformed(f"the document is {local[:40]!r}, neither RSS nor Atom")
        if self._item is None:
            if local in {"item", "entry"} and space in _PLAIN:
                self._item, self._item_depth = {}, self._depth
        elif self._depth == self._item_depth + 1:
            self._field = _FIELDS.get((space, local), "")
            self._pieces, self._room = [], FIELD_MAX
            if (
                local == "link"
                and attributes.get("rel", "alternate") == "alternate"
                and attributes.get("href")
            ):
                self._item.setdefault("link", attributes["href"])
        elif self._field:
            self._data(" ")  # elements of XHTML: words of two of them are two words

    def _end(self, name: str) -> None:
        del name
        if self._item is not None:
            if self._depth == self._item_depth + 1 and self._field:
                said = "".join(self._pieces).strip()
                if said:  # an empty element, such as Atom's <link/>, says nothing
                    self._item.setdefault(self._field, said)
                self._field = ""
            elif self._depth == self._item_depth:
                if len(self.items) < ITEMS_MAX:
                    self.items.append(self._item)
                else:
                    self.left_out += 1
                self._item = None
        self._depth -= 1

    def _data(self, data: str) -> None:
        if self._field and self._room > 0:
            self._pieces.append(data[: self._room])
            self._room -= len(data)


def _article(fields: dict[str, str], symbols: tuple[str, ...], zone: str) -> Article:
    def first(*names: str) -> str:
        return next((fields[name] for name in names if name in fields), "")

    said = first("pubDate", "published", "date", "issued", "updated")[:SAID_MAX]
    return Article(
        item_id=first("guid", "id", "link"),
        title=plain_text(first("title")),
        text=plain_text(first("content", "description", "summary")),
        url=first("link", "guid", "id"),
        published=read_published(said, zone),
        published_said=said,
        symbols=symbols,
    )


def _decoded(document: bytes) -> tuple[str, list[str]]:
    """Returns the document's text; bytes that are none in its encoding are replaced, and that is noted."""
    declared = _DECLARED.match(document[:300])
    marked = next((name for mark, name in _BOMS if document.startswith(mark)), "")
    name = marked or (declared[1].decode() if declared else "utf-8")
    if not _CODECS.fullmatch(name):
        raise _malformed(f"its encoding {name[:40]!r} is none that feeds are read in")
    try:
        text = document.decode(name, "replace")
    except LookupError:
        raise _malformed(f"its encoding {name[:40]!r} is not known here") from None
    notes = [f"bytes that are no {name} were replaced"] if "\ufffd" in text else []
    return text, notes


def _refuse_entity(*_: object) -> int:
    raise DataError(
        "feed_entities",
        "the document declares entities of its own, by which documents grow without bound or read files",
        "take another feed; none needs them; nothing was imported",
    )


def _malformed(what: str) -> DataError:
    return DataError(
        "feed_malformed",
        what,
        "check that it is a feed, and whole; a page of HTML is none; nothing was imported",
    )
