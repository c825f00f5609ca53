"""Files of articles: JSON lines and CSV, and everything that can be wrong with them."""

import hashlib
from pathlib import Path

import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.news import files
from neural_trader_tools.market.news.dates import read_published
from neural_trader_tools.market.news.files import read_news_file


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_json_lines_are_read_under_the_names_that_vendors_use(tmp_path: Path) -> None:
    lines = (
        '{"guid": 17, "Headline": "Apple\\u2028buys", "body": "a\\r\\nb", "link": "https://x.example/1",'
        ' "datetime": 1767355200, "tickers": ["AAPL", "BAC"]}\r\n'
        "\n"
        '{"title": "Second", "published": "2026-01-02T07:00:00", "symbols": "msft"}\n'
        '{"title": "Third", "published": "2026-01-02T07:00:00", "symbols": "BAC, WTI"}'
    )
    path = written(tmp_path / "wire.jsonl", lines)
    found = read_news_file(path, ("SPY",), "America/New_York")
    first, third = found.articles
    assert (first.item_id, first.title, first.text) == ("17", "Apple buys", "a\nb")
    assert first.published == parse_time("2026-01-02T12:00:00Z") == third.published
    assert (first.symbols, third.symbols) == (("AAPL", "BAC", "SPY"), ("BAC", "SPY", "WTI"))
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    [refused] = found.rejected
    assert (refused.line, "'msft' is no symbol" in refused.reason) == (3, True)


def test_csv_cells_may_hold_line_ends_commas_and_unusual_spaces(tmp_path: Path) -> None:
    rows = (
        'title,text,published\n"Oil, again","one\ntwo",2026-01-02\nnext\u2028line\x85,short\nx,y,2026-01-03\n'
    )
    found = read_news_file(written(tmp_path / "wire.csv", "\ufeff" + rows))
    assert [(one.title, one.text) for one in found.articles] == [("Oil, again", "one\ntwo"), ("x", "y")]
    assert [(one.line, one.reason) for one in found.rejected] == [(4, "not as many cells as the header")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[]", "no JSON object"),
        ('{"title": "cut of', "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"title": ' + "9" * 5000 + "}", "no JSON object"),
        ('{"title": ["a"]}', "its title is no text"),
        ('{"title": true}', "its title is no text"),
        ('{"title": " \\u0000 "}', "neither a title nor a text"),
        ('{"title": "x", "published": "next week"}', "cannot be read"),
        ('{"title": "x", "published": "2026-03-08T02:30:00"}', "skips it"),
        ('{"title": "x", "published": "2026-11-01T01:30:00"}', "shows it twice"),
        ('{"title": "x", "symbols": {"a": 1}}', "its symbols are no list"),
        ('{"title": "x", "symbols": ["\u0410APL"]}', "is no symbol"),  # a Cyrillic A
        ('{"title": "x", "symbols": "' + " ".join(f"S{n}" for n in range(60)) + '"}', "60 symbols"),
    ],
)
def test_a_bad_line_is_kept_aside_with_its_number_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path / "wire.ndjson", f'{{"title": "good"}}\n{line}\n')
    found = read_news_file(path, zone="America/New_York")
    assert [one.title for one in found.articles] == ["good"]
    [refused] = found.rejected
    assert refused.line == 2
    assert reason in refused.reason
    assert len(refused.content) <= 200


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("wire.jsonl", b"", "no_good_rows"),
        ("wire.jsonl", b'{"title": "B\xf6rse"}', "file_malformed"),
        ("wire.csv", b'title,text\n"never closed,1\n', "file_malformed"),
        ("wire.csv", b"title\n" + b"x" * 200_000, "file_malformed"),
        ("wire.csv", b"title\n\n", "no_good_rows"),
        ("wire.pdf", b"%PDF", "file_kind_unknown"),
    ],
)
def test_a_file_that_is_bad_as_a_whole_is_refused(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    with pytest.raises(InputError) as refused:
        read_news_file(written(tmp_path / name, content))
    assert refused.value.code == code


def test_a_file_of_more_than_the_bound_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "huge.jsonl").open("wb") as file:
        file.truncate(files.BYTES_MAX + 1)  # takes no space on the disk
    with pytest.raises(InputError) as refused:
        read_news_file(tmp_path / "huge.jsonl")
    assert refused.value.code == "file_too_large"
    for missing in ("none.jsonl", "folder.jsonl"):
        (tmp_path / "folder.jsonl").mkdir(exist_ok=True)
        with pytest.raises(InputError) as refused:
            read_news_file(tmp_path / missing)
        assert refused.value.code == "file_missing"


def test_lone_surrogates_and_control_characters_do_not_get_into_the_archive(tmp_path: Path) -> None:
    found = read_news_file(
        written(tmp_path / "a.jsonl", r'{"title": "a\ud800\u001b[2Jb\u009b", "id": "\ud800"}')
    )
    [one] = found.articles
    assert (one.title, one.item_id) == ("a? [2Jb", "?")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("2026-01-02T12:00:00+02:00", "2026-01-02T10:00:00Z"),
        ("20260102T120000Z", "2026-01-02T12:00:00Z"),
        ("2026-01-02", "2026-01-02T23:59:59.999999Z"),
        ("Fri, 02 Jan 2026 12:00:00 EST", "2026-01-02T17:00:00Z"),
        ("Fri, 02 Jan 2026 12:00:00 -0000", "2026-01-02T12:00:00Z"),
        ("1767355200500", "2026-01-02T12:00:00.500000Z"),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:00:00-05:00", None),
        ("2026-02-30", None),
        ("", None),
        ("Fri, 99 Foo 2026", None),
        ("\u0662\u0660\u0662\u0666-01-02", None),
    ],
)
def test_times_of_publication(said: str, means: str | None) -> None:
    assert read_published(said) == (parse_time(means) if means else None)
