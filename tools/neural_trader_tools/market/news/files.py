"""Files of articles: JSON lines, CSV, or a feed's document (RSS, Atom) that was saved.

Fields of the first two, in any case: `title` (headline), `text` (body, content, summary, description), `url`
(link), `id` (guid), `published` (event_time, date, datetime, time, timestamp), `symbols` (tickers). Cells and
lines that are no article are kept aside with their reason.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from neural_trader_governance.errors import InputError
from neural_trader_tools.market.files import CELL_LENGTH_MAX, Rejected
from neural_trader_tools.market.news.articles import Article, bounded, checked_symbols
from neural_trader_tools.market.news.dates import SAID_MAX, read_published
from neural_trader_tools.market.news.feeds import read_feed

BYTES_MAX = 64 << 20
_FEEDS: Final = frozenset({".xml", ".rss", ".atom", ".rdf"})
_ALIASES: Final = {
    "title": ("title", "headline"),
    "text": ("text", "body", "content", "summary", "description"),
    "url": ("url", "link"),
    "item_id": ("id", "guid", "item_id"),
    "published": ("published", "event_time", "date", "datetime", "time", "timestamp"),
    "symbols": ("symbols", "symbol", "tickers", "ticker"),
}
_Rows = Iterator[tuple[int, dict[str, object] | str]]


@dataclass(slots=True)
class NewsFile:
    """What a file held; `digest` is the SHA-256 of its bytes."""

    articles: list[Article]
    digest: str
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    notes: list[str] = field(default_factory=list[str])


def read_news_file(path: Path, symbols: tuple[str, ...] = (), zone: str = "UTC") -> NewsFile:
    """Reads a `.jsonl`, `.ndjson`, `.csv`, `.xml`, `.rss`, `.atom` or `.rdf` file.

    Args:
        path: Of the file.
        symbols: Attached to every article, beside its own.
        zone: Of times without an offset.

    Raises:
        InputError: it is missing, too large, of another kind, malformed as a whole, or without an article.
        DataError: it is no feed, see `read_feed`.
    """
    kind = path.suffix.lower()
    if kind not in {".jsonl", ".ndjson", ".csv", *_FEEDS}:
        raise InputError(
            "file_kind_unknown",
            f"{path.name!r:.100} is none of .jsonl, .ndjson, .csv, {', '.join(sorted(_FEEDS))}",
            "convert it to one of them",
        )
    document = _content(path)
    digest = hashlib.sha256(document).hexdigest()
    if kind in _FEEDS:
        feed = read_feed(document, symbols, zone)
        return NewsFile(feed.articles, digest, notes=feed.notes)
    found = NewsFile([], digest)
    try:
        text = document.decode("utf-8-sig")
        for line, row in _csv(text) if kind == ".csv" else _json_lines(text):
            try:
                if isinstance(row, str):
                    raise ValueError(
                        "no JSON object" if kind != ".csv" else "not as many cells as the header"
                    )
                found.articles.append(_article(row, symbols, zone))
            except (ValueError, InputError) as error:
                found.rejected.append(Rejected(line, str(error), str(row)[:CELL_LENGTH_MAX]))
    except UnicodeDecodeError as error:
        raise _malformed(path, f"is not UTF-8 ({error.reason})", "save it as UTF-8") from None
    except csv.Error as error:
        raise _malformed(path, f"is no CSV ({error})", "export it again; nothing was imported") from None
    if not found.articles:
        first = next((f"line {one.line}: {one.reason}" for one in found.rejected), "it is empty")
        raise InputError("no_good_rows", f"{path.name} holds no article ({first})", "nothing was imported")
    return found


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError("file_missing", f"{path.name!r:.100} is no file", "check the path")
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise _malformed(path, f"cannot be read ({error.strerror})", "check its permissions") from None
    if len(content) > BYTES_MAX:
        raise InputError(
            "file_too_large", f"{path.name} is larger than {BYTES_MAX >> 20} MiB", "split it into parts"
        )
    return content


def _malformed(path: Path, what: str, next_step: str) -> InputError:
    return InputError("file_malformed", f"{path.name} {what}", next_step)


def _json_lines(text: str) -> _Rows:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row: object = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, cast("dict[str, object]", row) if isinstance(row, dict) else line


def _csv(text: str) -> _Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, list[str]())
    for row in reader:
        if len(row) == len(header):
            yield reader.line_num, dict(zip(header, row, strict=True))
        elif row:
            yield reader.line_num, ",".join(row)


def _article(row: dict[str, object], symbols: tuple[str, ...], zone: str) -> Article:
    """Returns a row's article.

    Raises:
        ValueError: a field is none.
        InputError: a symbol is none.
    """
    spelled = {str(name).strip().lower(): value for name, value in row.items()}
    own: dict[str, object] = {
        name: next((spelled[one] for one in aliases if spelled.get(one) not in (None, "")), "")
        for name, aliases in _ALIASES.items()
    }
    listed = own.pop("symbols")
    if isinstance(listed, str):
        listed = [one for one in re.split(r"[\s,;|]+", listed) if one]
    if not isinstance(listed, list):
        raise ValueError("its symbols are no list")
    texts = {name: _text(name, value) for name, value in own.items()}
    said = texts.pop("published")[:SAID_MAX]
    published = read_published(said, zone)
    if said and published is None:
        raise ValueError("its time of publication cannot be read, or its zone skips it or shows it twice")
    article = Article(
        item_id=texts["item_id"] or texts["url"],
        title=texts["title"],
        text=texts["text"],
        url=texts["url"],
        published=published,
        published_said=said,
        symbols=checked_symbols([*symbols, *map(str, cast("list[object]", listed))]),
    )
    return bounded(article)


def _text(name: str, value: object) -> str:
    if isinstance(value, bool | list | dict):
        raise ValueError(f"its {name} is no text")
    return str(value)
