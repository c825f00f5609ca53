"""The archive beside DuckDB over the same Parquet: as_of reads of one and of fifty symbols, and scans of all.

    python benchmarks/archive.py [--symbols 10000]

Ten years of daily bars of 10,000 symbols, as a file of each series and compacted to a part a year, and ten
years of one symbol's minutes. The prices are made up; what is measured does not depend on them. DuckDB
answers the same question in SQL over the archive's files: the newest version of each bar known at as_of.
Each symbol is read for the first time by this process; the operating system has the files in its cache.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import polars as pl
from results import Case, write_results

from neural_trader_governance.terms.instruments import Instrument
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.sessions import SessionBook

FIRST, LAST = date(2012, 1, 1), date(2021, 12, 31)
AS_OF = datetime(2018, 6, 1, tzinfo=UTC)
NEWEST = """
    SELECT symbol, event_time, known_time, open, high, low, close, volume FROM read_parquet({files})
    WHERE {where} AND known_time <= TIMESTAMPTZ '2018-06-01 00:00:00+00'
    QUALIFY row_number() OVER (PARTITION BY symbol, event_time ORDER BY known_time DESC) = 1
    ORDER BY symbol, event_time
"""
DATASET = DataSet(
    dataset_id="made-up",
    source="benchmarks/archive.py",
    licence="none",
    imported_at=datetime(2022, 1, 1, tzinfo=UTC),
    file_digest="",
    known_time_assumed=True,
    rows_read=0,
    rows_added=0,
)


def bars(times: pl.DataFrame, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    close = np.round(50 * np.exp(np.cumsum(random.normal(0, 0.01, times.height))), 2) + 1
    columns = {
        "event_time": times["open"],
        "known_time": times["close"],
        "open": close,
        "high": close * 1.01,
        "low": close * 0.99,
        "close": close,
        "volume": random.integers(1_000, 1_000_000, times.height).astype(float),
    }
    return pl.DataFrame(columns, schema=frames.BAR_SCHEMA)


def of_symbol(number: int, rows: pl.DataFrame, interval: str = "1d") -> Batch:
    instrument = Instrument(symbol=f"S{number:05}", name=f"Company {number}")
    return Batch(instrument, interval, rows, DATASET, None, True)


def milliseconds(actions: list[Callable[[], object]]) -> tuple[float, float]:
    """Median and 99th percentile of actions that are each run once."""
    found: list[float] = []
    for action in actions:
        start = time.perf_counter()
        action()
        found.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(found, 50)), float(np.percentile(found, 99))


def both(name: str, ours: list[Callable[[], object]], theirs: list[Callable[[], object]]) -> list[Case]:
    mine, other = milliseconds(ours), milliseconds(theirs)
    return [
        Case(f"{name}, {which}", mine[at], other[at], "duckdb", "ms")
        for at, which in enumerate(("p50", "p99"))
    ]


def files_of(archive: Archive, interval: str, symbols: list[str] | None) -> str:
    """The files that DuckDB is told to read: those of the symbols, where a series has its own."""
    folder = archive.root / "bars" / interval
    own = sorted(folder.glob("*.parquet"))
    if own and symbols is not None:
        own = [path for path in own if path.name.split(".")[0] in set(symbols)]
    return str([str(path) for path in own or sorted(folder.rglob("*.parquet"))])


def reads(archive: Archive, what: str, names: list[str], singles: int, groups: int) -> list[Case]:
    """Reads of one and of fifty symbols, each symbol for the first time."""
    peer = duckdb.connect()
    archive.bars(names[-1])  # the manifest is read once a process
    has_own = any((archive.root / "bars" / "1d").glob("*.parquet"))

    def asked(symbols: list[str]) -> Callable[[], object]:
        files = files_of(archive, "1d", symbols)
        # DuckDB knows a file's symbol by its name where the symbol is no column.
        table = (
            f"(SELECT regexp_extract(filename, '(S[0-9]+)[.]', 1) AS symbol, * FROM read_parquet({files},"
            " filename=true))"
            if has_own
            else f"read_parquet({files}, hive_partitioning=false)"
        )
        where = f"symbol IN ({', '.join(repr(one) for one in symbols)})"
        query = NEWEST.replace("read_parquet({files})", table).replace("{where}", where)
        return lambda: peer.sql(query).pl()

    def fifty(symbols: list[str]) -> Callable[[], object]:
        def read() -> None:
            archive.preload(symbols, "1d")
            for one in symbols:
                archive.bars(one, as_of=AS_OF, adjust="none")

        return read

    one = names[:singles]
    sets = [names[singles + 50 * at : singles + 50 * (at + 1)] for at in range(groups)]
    expected = archive.bars(one[0], as_of=AS_OF, adjust="none")
    answered = asked([one[0]])()
    assert isinstance(answered, pl.DataFrame)
    assert answered["close"].to_list() == expected["close"].to_list()
    single = [lambda name=name: archive.bars(name, as_of=AS_OF, adjust="none") for name in one[1:]]
    return [
        *both(f"as_of read of 1 symbol, {what}", single, [asked([name]) for name in one[1:]]),
        *both(
            f"as_of read of 50 symbols, {what}",
            [fifty(each) for each in sets],
            [asked(each) for each in sets],
        ),
    ]


def scans(archive: Archive, what: str, rounds: int) -> list[Case]:
    """One figure of every symbol over all of its rows, and over one month of them."""
    peer = duckdb.connect()
    files = files_of(archive, "1d", None)
    whole = f"SELECT symbol, avg(close) FROM read_parquet({files}, hive_partitioning=false) GROUP BY symbol"
    month = (
        f"SELECT symbol, sum(volume) FROM read_parquet({files}, hive_partitioning=false)"
        " WHERE event_time >= TIMESTAMPTZ '2016-03-01 00:00:00+00'"
        " AND event_time < TIMESTAMPTZ '2016-04-01 00:00:00+00' GROUP BY symbol"
    )
    in_month = pl.col("event_time").is_between(
        datetime(2016, 3, 1, tzinfo=UTC), datetime(2016, 4, 1, tzinfo=UTC), closed="left"
    )

    def ours_whole() -> object:
        return archive.scan().group_by("symbol").agg(pl.col("close").mean()).collect()

    def ours_month() -> object:
        return archive.scan().filter(in_month).group_by("symbol").agg(pl.col("volume").sum()).collect()

    cases: list[Case] = []
    for name, mine, query in (("all rows", ours_whole, whole), ("a month", ours_month, month)):
        mine()
        cases += both(
            f"scan of all symbols, {name}, {what}",
            [mine] * rounds,
            [lambda query=query: peer.sql(query).pl()] * rounds,
        )[:1]
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=10_000)
    count: int = parser.parse_args().symbols
    cases: list[Case] = []
    with TemporaryDirectory() as folder:
        root = Path(folder)
        days = SessionBook(root / "calendars").sessions("XNYS", FIRST, LAST)
        archive = Archive(root / "archive")
        numbers = list(range(count))
        names = [f"S{number:05}" for number in numbers]
        Random(1).shuffle(names)
        start = time.perf_counter()
        for at in range(0, count, 50):  # below the bound above which an import writes one part
            archive.write([of_symbol(number, bars(days, number)) for number in numbers[at : at + 50]])
        print(f"imported {count} series as files of their own in {time.perf_counter() - start:.0f} s")
        singles, groups = min(200, count // 4), min(8, count // 100)
        cases += reads(Archive(archive.root), "files", names, singles, groups)
        start = time.perf_counter()
        print(archive.compact(), f"in {time.perf_counter() - start:.0f} s")
        cases += reads(Archive(archive.root), "parts", names, min(40, singles), groups)
        cases += scans(archive, "parts", 5)

        minutes = Archive(root / "minutes")
        rows = days.select(pl.datetime_ranges("open", "close", "1m", closed="left").alias("open")).explode(
            "open"
        )
        times = rows.with_columns((pl.col("open") + pl.duration(minutes=1)).alias("close"))
        one = bars(times, 7)
        minutes.write([of_symbol(1, one, "1m")])
        reader, peer = Archive(minutes.root), duckdb.connect()
        files = files_of(minutes, "1m", None)
        query = NEWEST.replace("symbol, ", "", 1).replace("{files}", files).replace("{where}", "true")
        query = query.replace("PARTITION BY symbol,", "PARTITION BY").replace("ORDER BY symbol,", "ORDER BY")
        cases += both(
            f"as_of read of 1 symbol, {one.height} minutes",
            [lambda: reader.bars("S00001", "1m", as_of=AS_OF, adjust="none")] * 7,
            [lambda: peer.sql(query).pl()] * 7,
        )[:1]
        hours = query.replace("ORDER BY event_time\n", "")
        hourly = (
            "SELECT time_bucket(INTERVAL 1 HOUR, event_time) AS hour, first(open ORDER BY event_time),"
            " max(high), min(low), last(close ORDER BY event_time), sum(volume)"
            f" FROM ({hours}) GROUP BY hour ORDER BY hour"
        )
        cases += both(
            "the same made into hours (ours cut at sessions)",
            [lambda: reader.bars("S00001", "1h", as_of=AS_OF, adjust="none")] * 5,
            [lambda: peer.sql(hourly).pl()] * 5,
        )[:1]
    write_results("archive", cases)


if __name__ == "__main__":
    main()
