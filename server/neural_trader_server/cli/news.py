"""`neural-trader news`: texts about markets, imported with where they came from, read as of any moment."""

from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import (
    FAILED,
    Json,
    emit,
    err,
    group,
    out,
    progress_bar,
    show_table,
    with_desk,
)

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.market.news.imports import NewsReport

app = group("news", "News and other texts: a stranger's words, each with its source and its two times.")

_COUNTS = ("rows_read", "rows_new", "rows_revised", "rows_unchanged", "rows_cut", "times_assumed")


@app.command("import")
def import_texts(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|URL…",
            help="Files (.jsonl, .csv, a saved feed: .xml, .rss, .atom) and addresses of RSS or Atom.",
        ),
    ],
    symbol: Annotated[
        list[str] | None, typer.Option(help="What all of them are about, such as AAPL; again for each.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Keep them under this name; default: the feed's address, the file's name.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Their terms.")] = "",
    time_zone: Annotated[str, typer.Option(help="Zone of times without an offset.")] = "UTC",
    known_when_published: Annotated[
        bool,
        typer.Option(
            "--known-when-published",
            help="New ones count as known since their publication: an assumption, for research.",
        ),
    ] = False,
    json_output: Json = False,
) -> None:
    """Import texts. What is there already changes nothing; changed words become a revision, known from now.

    Example: neural-trader news import https://example.com/apple.rss --symbol AAPL
    """
    from neural_trader_tools.market.news.archive import NewsArchive
    from neural_trader_tools.market.news.fetch import FeedSettings
    from neural_trader_tools.market.news.imports import LICENCE, ImportWords, import_news

    words = ImportWords(
        symbols=tuple(symbol or ()),
        source=source[:300],
        licence=(licence or LICENCE)[:400],
        time_zone=time_zone,
        known_when_published=known_when_published,
    )

    async def run(services: "Services") -> "list[NewsReport]":
        archive = NewsArchive(services.archive.root)
        reports: list[NewsReport] = []
        async for report in import_news(archive, places, words, FeedSettings(), services.clock):
            reports.append(report)
            if not report.error:
                await anyio.to_thread.run_sync(_on_record, services, report)
        return reports

    with progress_bar(f"{len(places)} files and feeds", quiet=json_output):
        reports = with_desk(run)
    if json_output:
        emit({"reports": [one.model_dump(mode="json") for one in reports]})
    else:
        _show_reports(reports)
    if any(one.error for one in reports):
        raise typer.Exit(FAILED)


def _on_record(services: "Services", report: "NewsReport") -> None:
    from neural_trader_governance.audit.entries import EntryType

    payload = {
        "provider": "news",
        "source": report.source,
        "address": report.address,
        "document": report.document,
        "rows_new": report.written.rows_new,
        "rows_revised": report.written.rows_revised,
        "rows_quarantined": report.rows_quarantined,
    }
    services.record(services.person, EntryType.DATA_IMPORT, payload=payload)


def _show_reports(reports: "list[NewsReport]") -> None:
    show_table(
        "Imported",
        ("source", "read", "new", "revised", "unchanged", "cut", "times assumed", "refused"),
        (
            (one.source, *(getattr(one.written, name) for name in _COUNTS), one.rows_quarantined)
            for one in reports
        ),
    )
    for one in reports:
        for note in one.notes:
            out().print(f"{one.source}: {note}", soft_wrap=True, markup=False)
        if one.quarantined:
            show_table(
                f"Refused rows, all of them in the archive's {one.quarantine_file}",
                ("line", "reason"),
                ((row.line, row.reason) for row in one.quarantined),
            )
        if one.error:
            err().print(f"{one.source}: {one.error}", soft_wrap=True, markup=False)


@app.command("list")
def list_texts(
    symbol: Annotated[list[str] | None, typer.Option(help="About any of these.")] = None,
    query: Annotated[str, typer.Option(help="Words that all occur in title or text.")] = "",
    start: Annotated[str, typer.Option(help="Published since: a date or RFC 3339.")] = "",
    end: Annotated[str, typer.Option(help="Published before.")] = "",
    as_of: Annotated[str, typer.Option(help="As known then; everything where it is left out.")] = "",
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 20,
    json_output: Json = False,
) -> None:
    """Show the newest texts, and of each the version known `--as-of`.

    Example: neural-trader news list --symbol AAPL --as-of 2026-11-20T14:30:00Z
    """

    async def run(services: "Services") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            from neural_trader_governance.terms.clocks import parse_time
            from neural_trader_tools.market.news.archive import NewsArchive
            from neural_trader_tools.market.news.page import find_news

            page = find_news(
                NewsArchive(services.archive.root),
                symbols=tuple(symbol or ()),
                query=query,
                start=parse_time(start) if start else None,
                end=parse_time(end) if end else None,
                as_of=parse_time(as_of) if as_of else None,
                limit=limit,
            )
            return page.model_dump(mode="json")

        return await anyio.to_thread.run_sync(read)

    page = with_desk(run)
    if json_output:
        emit(page)
        return
    show_table(
        f"{len(page['articles'])} of {page['matched']} texts, written by strangers",
        ("id", "published", "known", "symbols", "title"),
        (
            (
                one["article_id"],
                _published(one),
                _known(one),
                " ".join(one["symbols"]),
                one["title"] or one["text"][:80],
            )
            for one in page["articles"]
        ),
    )


@app.command()
def show(
    article_id: Annotated[str, typer.Argument(help="As `news list` shows it.")],
    as_of: Annotated[str, typer.Option(help="What was known then; everything where it is left out.")] = "",
    json_output: Json = False,
) -> None:
    """Show one text whole, with where it came from, and its earlier versions."""

    async def run(services: "Services") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            from neural_trader_governance.terms.clocks import parse_time
            from neural_trader_tools.market.news.archive import NewsArchive
            from neural_trader_tools.market.news.page import show_article

            archive = NewsArchive(services.archive.root)
            page = show_article(archive, article_id, parse_time(as_of) if as_of else None)
            source = archive.sources()[page.articles[0].source]
            return {**page.model_dump(mode="json"), "source": source.model_dump(mode="json")}

        return await anyio.to_thread.run_sync(read)

    page = with_desk(run)
    if json_output:
        emit(page)
        return
    one, source = page["articles"][0], page["source"]
    facts = {
        "published": _published(one),
        "known": _known(one),
        "received": one["received_time"],
        "symbols": " ".join(one["symbols"]),
        "source": f"{source['name']} ({source['kind']} {source['address']})",
        "licence": source["licence"],
        "address": one["url"],
        "document": f"SHA-256 {one['document']}",
    }
    show_table("Written by a stranger", ("", ""), [fact for fact in facts.items() if fact[1]])
    out().print(f"{one['title']}\n\n{one['text']}", soft_wrap=True, markup=False)
    if page["matched"] > 1:
        show_table(
            "Earlier versions",
            ("known", "published", "title", "text"),
            (
                (_known(each), _published(each), each["title"], each["text"][:200])
                for each in page["articles"][1:]
            ),
        )


def _published(article: dict[str, Any]) -> str:
    return f"{article['event_time']}{' (assumed)' if article['event_time_assumed'] else ''}"


def _known(article: dict[str, Any]) -> str:
    from neural_trader_governance.terms.clocks import parse_time

    known_time = article["known_time"]
    assumed = parse_time(known_time) < parse_time(article["received_time"])
    return f"{known_time}{' (assumed)' if assumed else ''}"
