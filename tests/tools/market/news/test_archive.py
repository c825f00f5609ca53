"""The archive of articles: two times, revisions, reads as of any moment, crashes and full disks."""

import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.news import archive
from neural_trader_tools.market.news.archive import NewsArchive
from neural_trader_tools.market.news.articles import Article, bounded
from neural_trader_tools.market.news.manifest import NewsManifest, NewsSource, read_manifest

from .conftest import Import, MakeArticle

NOON = "2026-01-02T12:00:00Z"


def titles(news: NewsArchive, **asked: object) -> list[str]:
    return news.read(**asked)[0].get_column("title").to_list()  # pyright: ignore[reportArgumentType]


@contextmanager
def disk_of(file_bytes_max: int) -> Generator[None]:
    """No file may grow beyond so many bytes."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_text_is_known_when_it_was_received_and_an_earlier_read_does_not_see_it(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(published=NOON), at="2026-01-05T08:00:00Z")
    assert titles(news, as_of=parse_time("2026-01-05T07:59:59Z")) == []
    found, matched = news.read(as_of=parse_time("2026-01-05T08:00:00Z"))
    assert matched == 1
    row = found.row(0, named=True)
    assert row["event_time"] == parse_time(NOON)
    assert row["known_time"] == row["received_time"] == parse_time("2026-01-05T08:00:00Z")
    assert (row["document"], row["source"], row["item_id"]) == ("ab" * 32, "wire", "1")


def test_a_changed_text_is_a_revision_and_both_versions_stay_readable(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(title="Apple buys a bank", published=NOON), at="2026-01-03T00:00:00Z")
    again = put(article(title="Apple buys a bank", published=NOON), at="2026-01-04T00:00:00Z")
    assert (again.rows_new, again.rows_revised, again.rows_unchanged) == (0, 0, 1)
    changed = put(article(title="Apple denies it", published=NOON), at="2026-01-05T00:00:00Z")
    assert (changed.rows_new, changed.rows_revised) == (0, 1)
    assert titles(news, as_of=parse_time("2026-01-04T23:59:59Z")) == ["Apple buys a bank"]
    assert titles(news) == ["Apple denies it"]
    # An older version does not come up where the newest one does not match.
    assert titles(news, query="bank") == []
    article_id = news.read()[0].item(0, "article_id")
    assert news.versions(article_id).get_column("title").to_list() == ["Apple buys a bank", "Apple denies it"]
    assert news.versions(article_id, parse_time("2026-01-04T00:00:00Z")).height == 1
    assert news.versions("0" * 16).is_empty()


def test_a_revision_is_known_after_the_version_before_it_even_where_the_clock_went_back(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(title="one", published=NOON), at="2026-01-05T00:00:00Z")
    put(article(title="two", published=NOON), at="2026-01-04T00:00:00Z")
    put(article(title="three"), article(title="four"), at="2026-01-04T00:00:00Z")
    versions = news.versions(news.read()[0].item(0, "article_id"))
    assert versions.get_column("title").to_list() == ["one", "two", "three", "four"]
    known = versions.get_column("known_time").to_list()
    assert known == sorted(set(known))


def test_a_time_that_is_missing_or_lies_ahead_is_that_of_the_receipt_and_says_so(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    written = put(article("none"), article("ahead", published="2030-01-01T00:00:00Z"), at=NOON)
    assert (written.rows_new, written.times_assumed) == (2, 2)
    for row in news.read()[0].iter_rows(named=True):
        assert row["event_time"] == parse_time(NOON)
        assert row["event_time_assumed"]
    assert news.read(query="Apple")[0].get_column("published_said").sort().to_list() == [
        "",
        "2030-01-01T00:00:00Z",
    ]


def test_an_assumption_makes_new_texts_known_when_published_and_revisions_when_received(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(title="first", published=NOON), at="2026-02-01T00:00:00Z", known_when_published=True)
    put(article(title="second", published=NOON), at="2026-02-02T00:00:00Z", known_when_published=True)
    put(article("2", published=""), at="2026-02-03T00:00:00Z", known_when_published=True)
    assert titles(news, as_of=parse_time(NOON)) == ["first"]
    assert titles(news, as_of=parse_time("2026-02-01T23:00:00Z")) == ["first"]
    assert titles(news, as_of=parse_time("2026-02-02T00:00:00Z")) == ["second"]
    assert len(titles(news, as_of=parse_time("2026-02-02T23:00:00Z"))) == 1


def test_symbols_add_up_and_reads_filter_by_them_by_words_and_by_time(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(
        article("1", "Bank of ÄPFEL opens", "2026-01-01T00:00:00Z", symbols=("AAPL",)),
        article("2", "Oil falls", "2026-02-01T00:00:00Z", symbols=("WTI",), text="Apple orchards too"),
        at="2026-03-01T00:00:00Z",
    )
    more = put(
        article("1", "Bank of ÄPFEL opens", "2026-01-01T00:00:00Z", symbols=("BAC",)),
        at="2026-03-02T00:00:00Z",
    )
    assert more.rows_revised == 1
    assert titles(news, symbols=["BAC"]) == titles(news, symbols=["AAPL"]) == ["Bank of ÄPFEL opens"]
    assert titles(news, symbols=["BAC"], as_of=parse_time("2026-03-01T12:00:00Z")) == []
    assert titles(news, symbols=["WTI", "AAPL"]) == ["Oil falls", "Bank of ÄPFEL opens"]
    assert titles(news, query="apple ORCHARDS") == ["Oil falls"]
    assert titles(news, query="äpfel") == ["Bank of ÄPFEL opens"]
    assert titles(news, query="a.c") == []  # words, not patterns
    assert titles(news, start=parse_time("2026-02-01T00:00:00Z")) == ["Oil falls"]
    assert titles(news, end=parse_time("2026-02-01T00:00:00Z")) == ["Bank of ÄPFEL opens"]
    assert news.read(limit=1)[1] == 2


VERSIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["up", "down", "flat"]), st.integers(0, 40)), max_size=8
)


@settings(max_examples=10, deadline=None)
@given(received=VERSIONS, cut=st.integers(0, 12))
def test_a_read_as_of_a_moment_equals_that_of_an_archive_that_ends_there(
    received: list[tuple[str, str, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    noon = parse_time(NOON)

    def fill(news: NewsArchive, until: datetime) -> None:
        for hour, (item_id, title, age_days) in enumerate(received):
            now = noon + timedelta(hours=hour)
            if now <= until:
                one = bounded(Article(item_id, title, "", published=noon - timedelta(days=age_days)))
                source = NewsSource(name="s", kind="file", address="s", licence="", received_time=now)
                news.write([one], source, "", now)

    whole, ended = (NewsArchive(tmp_path_factory.mktemp("news")) for _ in range(2))
    as_of = noon + timedelta(hours=cut)
    fill(whole, noon + timedelta(days=9))
    fill(ended, as_of)
    seen, matched = whole.read(as_of=as_of)
    assert (seen.rows(), matched) == (ended.read()[0].rows(), ended.read()[1])
    assert all(known <= as_of for known in seen.get_column("known_time").to_list())


def test_a_full_disk_is_a_clear_error_and_changes_nothing(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(title="before", published=NOON), at="2026-01-03T00:00:00Z")
    fresh = [article(str(number), f"text {number}", NOON) for number in range(2, 400)]
    for room in (0, 2000):
        with disk_of(room), pytest.raises(StorageError) as refused:
            put(*fresh, at="2026-01-04T00:00:00Z")
        assert refused.value.code == "write_failed"
        assert titles(news) == ["before"]
    (news.root / "news" / "month=2026-01" / "orphan.parquet").write_bytes(
        b"an import that was killed left it"
    )
    assert put(*fresh, at="2026-01-04T00:00:00Z").rows_new == 398
    kept = [path.suffix for path in (news.root / "news").rglob("*") if path.is_file()]
    assert kept == [".parquet"] * 2  # the new one, and for readers that go on the one before


def test_a_reader_that_is_overtaken_by_imports_looks_again(
    news: NewsArchive, article: MakeArticle, put: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(article(title="one", published=NOON), at="2026-01-03T00:00:00Z")
    stale = [read_manifest(news.root)]
    for title in ("two", "three"):
        put(article(title=title, published=NOON), at="2026-01-04T00:00:00Z")
    monkeypatch.setattr(
        "neural_trader_tools.market.news.archive.read_manifest",
        lambda root: stale.pop() if stale else read_manifest(root),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    )
    assert titles(news) == ["three"]
    assert stale == []


CHILD = """
import sys
from datetime import timedelta
from pathlib import Path
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.news.archive import NewsArchive
from neural_trader_tools.market.news.articles import Article, bounded
from neural_trader_tools.market.news.manifest import NewsSource

news, noon = NewsArchive(Path(sys.argv[1])), parse_time("2026-01-02T12:00:00Z")
source = NewsSource(name="s", kind="file", address="s", licence="", received_time=noon)
number = news.read()[1] // 2
while True:  # each import brings one text to each of two months, so that half of a commit would be seen
    number += 1
    dates = {month: parse_time(f"2025-{month}-01") for month in ("01", "02")}
    both = [bounded(Article(f"{month} {number}", "x", "", published=date)) for month, date in dates.items()]
    news.write(both, source, "", noon + timedelta(seconds=number))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_an_import_that_is_killed_leaves_the_archive_before_or_after_it(tmp_path: Path) -> None:
    for run in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        acknowledged = 0
        for _, line in zip(range(1 + run % 3), child.stdout, strict=False):
            acknowledged = int(line)
        child.send_signal(signal.SIGKILL)
        rest = [int(line) for line in child.stdout.read().split()]
        acknowledged = max([acknowledged, *rest])
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        ids = set(NewsArchive(tmp_path).read(limit=9999)[0].get_column("item_id"))
        assert {f"{month} {number}" for month in ("01", "02") for number in range(1, acknowledged + 1)} <= ids
        assert len(ids) in {2 * acknowledged, 2 * acknowledged + 2}


def test_damaged_files_are_named_and_truncated_ones_found(
    news: NewsArchive, article: MakeArticle, put: Import
) -> None:
    put(article(published=NOON), at="2026-01-03T00:00:00Z")
    [part] = (news.root / "news").rglob("*.parquet")
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="restore"):
        news.read()
    part.unlink()
    with pytest.raises(IntegrityError):
        news.read()
    (news.root / "news.json").write_text("{}}")
    with pytest.raises(IntegrityError, match="1 problems"):
        put(article("2"), at="2026-01-04T00:00:00Z")


def test_imports_at_once_lose_nothing_and_readers_are_never_in_the_way(tmp_path: Path) -> None:
    now = parse_time(NOON)
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            news = NewsArchive(tmp_path)
            source = NewsSource(name=name, kind="file", address=name, licence="", received_time=now)
            for number in range(4):
                news.write([bounded(Article(str(number), f"{name} {number}", ""))], source, "", now)
                news.read()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write, args=[name]) for name in ("left", "right", "middle")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert NewsArchive(tmp_path).read()[1] == 12


def test_a_reader_begins_anew_as_often_as_imports_take_its_files_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, news = parse_time(NOON), NewsArchive(tmp_path)
    source = NewsSource(name="s", kind="file", address="s", licence="", received_time=now)
    imports = iter(range(13))

    def put() -> bool:
        number = next(imports, None)
        if number is not None:
            news.write([bounded(Article(str(number), "words", ""))], source, "", now)
        return number is not None

    put()
    begun: list[int] = []

    def overtaken(root: Path) -> NewsManifest:
        """Two imports follow each reading of the manifest: the second sweeps what the first replaced."""
        found = read_manifest(root)
        with monkeypatch.context() as patch:
            patch.setattr(archive, "read_manifest", read_manifest)
            begun.append(put() + put())
        return found

    monkeypatch.setattr(archive, "read_manifest", overtaken)
    assert news.read()[1] == 13
    assert begun == [2, 2, 2, 2, 2, 2, 0]
