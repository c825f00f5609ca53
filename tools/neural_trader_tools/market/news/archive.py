"""The archive of articles: `news/` beside the prices, readable as of any moment.

    root/news.json                              what counts, replaced atomically (the commit point)
    root/news/month=2026-11/DIGEST.parquet      by the month of publication

Files are immutable and named by their content. An import writes new files, then the manifest; killed in
between it leaves the archive as it was, and the next one sweeps the leftovers. Nothing is overwritten: what
a source changes is a later row of the same article.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import Field

from neural_trader_governance.terms.clocks import to_utc
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.durable import exclusive, write_parquet_durably
from neural_trader_tools.market.frames import digest
from neural_trader_tools.market.news.articles import SCHEMA, Article
from neural_trader_tools.market.news.manifest import (
    NewsManifest,
    NewsPart,
    NewsSource,
    damaged,
    read_manifest,
    replace_manifest,
)
from neural_trader_tools.market.news.versions import Version, row_of, version_of

FOLDER = "news"
READINGS_MAX: Final = 1_000
"""How often a reader begins anew because imports took away what it was about to read."""

_ORDER = ("event_time", "known_time", "article_id")


class NewsWritten(Term):
    """What became of articles that were handed to the archive."""

    rows_read: int = 0
    rows_new: int = 0
    rows_revised: int = 0
    rows_unchanged: int = 0
    rows_cut: int = Field(default=0, description="Of those written: longer than the archive keeps")
    times_assumed: int = Field(default=0, description="Of those written: no usable time of publication")


class NewsArchive:
    """Reads and writes the articles of one archive folder; safe between threads and processes.

    Args:
        root: The archive's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def sources(self) -> dict[str, NewsSource]:
        """Returns where articles came from, by name."""
        return dict(sorted(read_manifest(self.root).sources.items()))

    def read(
        self,
        *,
        symbols: Sequence[str] = (),
        query: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
        limit: int = 20,
    ) -> tuple[pl.DataFrame, int]:
        """Returns the newest matching articles, newest first, and how many match.

        Args:
            symbols: Any of these; none is no restriction.
            query: Words that all occur in title or text, in any case.
            start: First time of publication, inclusive.
            end: Exclusive.
            as_of: Versions known later are invisible; None sees everything.
            limit: How many rows.

        Returns:
            `articles.SCHEMA`: of each article the newest version known, by event_time.

        Raises:
            IntegrityError: the manifest or a file does not parse.
        """
        start, end, as_of = (to_utc(moment) if moment else None for moment in (start, end, as_of))
        return self._scanned(lambda rows: _found(_known(rows, as_of), symbols, query, start, end, limit))

    def versions(self, article_id: str, as_of: datetime | None = None) -> pl.DataFrame:
        """Returns every version of one article that was known, oldest first; no row where there is none.

        Raises:
            IntegrityError: the manifest or a file does not parse.
        """
        wanted = pl.col("article_id") == article_id
        versions, _ = self._scanned(
            lambda rows: (_known(rows, to_utc(as_of) if as_of else None).filter(wanted).collect(), 0)
        )
        return versions.sort("known_time")

    def write(
        self,
        articles: Iterable[Article],
        source: NewsSource,
        document: str,
        now: datetime,
        *,
        known_when_published: bool = False,
    ) -> NewsWritten:
        """Adds articles in one commit: after a crash at any instant all of them are there, or none.

        An article that is there with the same words changes nothing. Other words, or more symbols, are a
        revision, known at `now`.

        Args:
            articles: As `bounded` returns them, in the order in which they came.
            source: Of all of them.
            document: SHA-256 of the bytes that they came in, hex.
            now: When they were received.
            known_when_published: Take each new article as known when it was published, though it came now.

        Raises:
            StorageError: the disk refused; the archive is unchanged.
            IntegrityError: its own files do not parse.
        """
        counts = dict.fromkeys(NewsWritten.model_fields, 0)
        with exclusive(self.root / ".news.lock"):
            before = read_manifest(self.root)
            self._sweep(before)
            newest = self._newest(before)
            fresh: list[dict[str, object]] = []
            for article in articles:
                counts["rows_read"] += 1
                key = article.article_id(source.name)
                held = newest.get(key)
                version = version_of(article, held, now, known_when_published=known_when_published)
                if version is None:
                    counts["rows_unchanged"] += 1
                    continue
                newest[key] = version
                fresh.append(row_of(article, source.name, version, document, now))
                counts["rows_new" if held is None else "rows_revised"] += 1
                counts["rows_cut"] += article.is_cut
                counts["times_assumed"] += version.event_time_assumed
            if fresh:
                parts = self._stored(before, pl.DataFrame(fresh, schema=SCHEMA, orient="row"))
                after = NewsManifest(parts=parts, sources={**before.sources, source.name: source})
                replace_manifest(self.root, after)
        return NewsWritten(**counts)

    def _scanned(self, query: Callable[[pl.LazyFrame], tuple[pl.DataFrame, int]]) -> tuple[pl.DataFrame, int]:
        read: NewsManifest | None = None
        missing = ""
        for _ in range(READINGS_MAX):
            before, read = read, read_manifest(self.root)
            if read == before:  # nobody swept what it names
                break
            files = [str(self.root / part.file) for part in read.parts.values()]
            if not files:
                return pl.DataFrame(schema=SCHEMA), 0
            try:
                return query(pl.scan_parquet(files, hive_partitioning=False))
            except FileNotFoundError as error:  # an import swept a file that this reader had just named
                missing = str(error)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise damaged(type(error).__name__) from error
        raise damaged(missing)

    def _stored(self, before: NewsManifest, rows: pl.DataFrame) -> dict[str, NewsPart]:
        parts = dict(before.parts)
        months = rows.with_columns(pl.col("event_time").dt.strftime("%Y-%m").alias("month"))
        for (month,), part in months.partition_by("month", as_dict=True).items():
            old = parts.get(str(month))
            stored = [_whole(self.root / old.file)] if old else []
            frame = pl.concat([*stored, part.drop("month")]).sort(_ORDER)
            name = digest(frame.select(*_ORDER, "content"))[:16]
            file = f"{FOLDER}/month={month}/{name}.parquet"
            write_parquet_durably(self.root / file, frame)
            parts[str(month)] = NewsPart(file=file, rows=frame.height)
        return dict(sorted(parts.items()))

    def _newest(self, manifest: NewsManifest) -> dict[str, Version]:
        newest: dict[str, Version] = {}
        columns = ["article_id", "event_time", "event_time_assumed", "known_time", "content", "symbols"]
        for part in manifest.parts.values():
            for key, event, assumed, known, content, symbols in _whole(self.root / part.file, columns).rows():
                held = newest.get(key)
                if held is None or known > held.known_time:
                    newest[key] = Version(event, assumed, known, content, tuple(symbols))
        return newest

    def _sweep(self, manifest: NewsManifest) -> None:
        wanted = {part.file for part in manifest.parts.values()}
        for path in (self.root / FOLDER).rglob("*"):
            if path.is_file() and path.relative_to(self.root).as_posix() not in wanted:
                path.unlink(missing_ok=True)


def _known(rows: pl.LazyFrame, as_of: datetime | None) -> pl.LazyFrame:
    return rows if as_of is None else rows.filter(pl.col("known_time") <= as_of)


def _found(
    rows: pl.LazyFrame,
    symbols: Sequence[str],
    query: str,
    start: datetime | None,
    end: datetime | None,
    limit: int,
) -> tuple[pl.DataFrame, int]:
    """Returns the newest matches of the rows that were known, and how many there are."""
    searched = pl.concat_str("title", pl.lit("\n"), "text").str.to_lowercase()
    hits = [searched.str.contains(word, literal=True) for word in query.lower().split()]
    if start is not None:
        hits.append(pl.col("event_time") >= start)
    if end is not None:
        hits.append(pl.col("event_time") < end)
    if symbols:
        hits.append(pl.any_horizontal(*(pl.col("symbols").list.contains(each) for each in symbols)))
    # The newest version that was known decides: an older one whose words were taken back must not come up
    # in its place.
    matched = (
        rows.select(*_ORDER, pl.all_horizontal(pl.lit(value=True), *hits).alias("hit"))
        .sort("known_time")
        .unique(subset="article_id", keep="last", maintain_order=True)
        .filter("hit")
        .drop("hit")
        .collect()
    )
    shown = matched.sort(_ORDER, descending=True).head(limit)
    bodies = rows.join(shown.lazy(), on=["article_id", "known_time"], how="semi").collect()
    return bodies.select(SCHEMA.names()).sort(_ORDER, descending=True), matched.height


def _whole(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=columns, hive_partitioning=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise damaged(f"{path.name}: {type(error).__name__}") from error
