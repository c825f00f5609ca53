"""Similar windows on the archive: what comes later changes nothing, and what is planted is found."""

import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.terms.instruments import AssetClass, Instrument
from neural_trader_tools.features.regime import BARS_MIN, regime_vector
from neural_trader_tools.features.regimes import regime_vectors
from neural_trader_tools.features.similar import By, Similar, find_similar
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.renames import Rename

START = datetime(2010, 1, 4, 14, 30, tzinfo=UTC)
IMPORTED = datetime(2020, 1, 1, tzinfo=UTC)
BYS: tuple[By, ...] = ("regime", "shape", "dtw")


def walk(seed: int, size: int = 900) -> list[float]:
    return (50 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.015, size)))).tolist()


def batch(
    symbol: str,
    closes: list[float],
    *,
    first: int = 0,
    known_later: timedelta = timedelta(hours=6),
    asset_class: AssetClass = "equity",
) -> Batch:
    """A bar a day from `START` on."""
    opens = [START + timedelta(days=first + i) for i in range(len(closes))]
    rows = {
        "event_time": opens,
        "known_time": [moment + known_later for moment in opens],
        "open": closes,
        "high": [close * 1.01 for close in closes],
        "low": [close * 0.99 for close in closes],
        "close": closes,
        "volume": [1e6 + 1e4 * (i * 7 % 13) for i in range(len(closes))],
    }
    dataset = DataSet(
        dataset_id="test",
        source="a test",
        licence="none",
        imported_at=IMPORTED,
        file_digest="",
        known_time_assumed=False,
        rows_read=len(closes),
        rows_added=0,
    )
    bars = pl.DataFrame(rows, schema=frames.BAR_SCHEMA)
    actions = frames.empty(frames.ACTION_SCHEMA)
    return Batch(
        Instrument(symbol=symbol, name=symbol, asset_class=asset_class), "1d", bars, dataset, actions
    )


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", SimulatedClock(IMPORTED))


@pytest.mark.parametrize("by", BYS)
def test_what_is_known_later_changes_no_byte_of_an_answer(archive: Archive, by: By, tmp_path: Path) -> None:
    closes = {name: walk(seed) for seed, name in enumerate("AB")}
    archive.write([batch(name, values[:700]) for name, values in closes.items()])
    as_of = START + timedelta(days=699, hours=6)

    def ask() -> str:
        return find_similar(
            archive, "A", by=by, window=30, among=("B",), as_of=as_of, horizons=(5, 300), top=6
        ).model_dump_json()

    before = ask()
    assert "null" in before  # an outcome that the rows to come will tell
    shutil.copytree(archive.root, tmp_path / "copy")
    archive.write([batch(name, values[700:], first=700) for name, values in closes.items()])
    assert ask() == before
    corrected = [close * 1.2 for close in closes["A"][300:360]]
    archive.write([batch("A", corrected, first=300, known_later=timedelta(days=500))])
    split = pl.DataFrame(
        {
            "event_time": [as_of + timedelta(days=1)],
            "known_time": [as_of + timedelta(days=1)],
            "kind": ["split"],
            "value": [4.0],
        },
        schema=frames.ACTION_SCHEMA,
    )
    later = batch("A", closes["A"][:1])
    archive.write_actions(
        [Batch(later.instrument, "1d", frames.empty(frames.BAR_SCHEMA), later.dataset, split)],
        [],
        later.dataset,
    )
    assert ask() == before
    newest = find_similar(archive, "A", by=by, window=30, among=("B",), horizons=(5, 300), top=6)
    assert newest.last == START + timedelta(days=899)


@pytest.mark.parametrize("by", BYS)
def test_no_match_ends_later_than_the_query_begins_and_none_share_a_bar(sample: Archive, by: By) -> None:
    as_of = datetime(2009, 6, 1, tzinfo=UTC)
    found = find_similar(sample, "AAPL", by=by, as_of=as_of, among=("IBM", "WTI"), window=60, top=25)
    assert len(found.matches) == 25
    assert [one.distance for one in found.matches] == sorted(one.distance for one in found.matches)
    assert all(one.first < one.last < found.first < found.last < as_of for one in found.matches)
    for name in ("AAPL", "IBM", "WTI"):
        spans = sorted((one.first, one.last) for one in found.matches if one.symbol == name)
        assert all(one[1] < two[0] for one, two in pairwise(spans))
    closes = dict(sample.bars("IBM", as_of=as_of, adjust="total").select("event_time", "close").iter_rows())
    times = list(closes)
    for one in found.matches:
        if one.symbol == "IBM" and one.returns[1] is not None:
            after = times[times.index(one.last) + 20]
            assert one.returns[1] == pytest.approx(closes[after] / closes[one.last] - 1)


def test_a_shape_that_was_planted_is_found_whatever_its_size_and_lag(archive: Archive) -> None:
    closes = walk(5)
    query = np.log(closes[-40:])
    closes[200:240] = np.exp(3 * query - 5).tolist()
    lagged = np.concatenate([query[:1].repeat(3), query[:-3]])
    closes[400:440] = np.exp(lagged).tolist()
    archive.write([batch("A", closes)])
    first = START + timedelta(days=200)
    straight = find_similar(archive, "A", by="shape", window=40, top=2)
    assert straight.matches[0].first == first
    assert straight.matches[0].distance < 1e-6
    warped = find_similar(archive, "A", by="dtw", window=40, top=2, band=4)
    assert warped.matches[0].first == first
    assert abs(warped.matches[1].first - START - timedelta(days=400)) <= timedelta(days=4)
    assert warped.matches[1].distance < straight.matches[1].distance


def test_another_symbol_without_such_bars_is_told(archive: Archive) -> None:
    archive.write([batch("A", walk(1)), batch("B", walk(2), first=800)])
    found = find_similar(archive, "A", window=20, among=("B",), as_of=START + timedelta(days=700))
    assert found.searched == 1
    assert "no such bars of its own that were known: B" in found.notes
    assert any("no evidence" in note for note in found.notes)


def test_all_that_is_listed_later_changes_no_answer_either(archive: Archive) -> None:
    archive.write([batch("A", walk(1)), batch("B", walk(2))])
    as_of = START + timedelta(days=700)

    def ask() -> Similar:
        return find_similar(archive, "A", window=20, everything=True, as_of=as_of)

    before = ask()
    assert before.searched == 2
    archive.write([batch("C", walk(3, 100), first=800)])
    assert ask().model_dump_json() == before.model_dump_json()
    assert find_similar(archive, "A", window=20, everything=True).searched == 3


def test_the_two_symbols_of_a_renamed_company_are_one_history(archive: Archive) -> None:
    archive.write([batch("OLD", walk(1, 880)), batch("B", walk(2))])
    moment = START + timedelta(days=880)
    archive.write_actions(
        [], [Rename(old="OLD", new="NEW", event_time=moment, known_time=moment)], batch("B", walk(2)).dataset
    )
    asked = find_similar(archive, "NEW", window=20, among=("OLD", "B"))
    assert asked.searched == 2
    assert {one.symbol for one in asked.matches} <= {"NEW", "B"}
    assert "no such bars of its own that were known: OLD" in asked.notes


def test_few_windows_are_no_silence(archive: Archive) -> None:
    archive.write([batch("A", walk(1, 100))])
    found = find_similar(archive, "A", window=20)
    assert 2 <= len(found.matches) <= 4
    assert f"only {len(found.matches)} windows lie far enough apart; 10 were asked for" in found.notes


def test_a_coin_misses_no_week(archive: Archive) -> None:
    closes = walk(1, 300)
    weeks = [batch("E", closes[:150]), batch("E", closes[150:], first=158)]
    coins = [batch("C", closes[:150], asset_class="crypto")]
    coins.append(batch("C", closes[150:], first=158, asset_class="crypto"))
    archive.write([*weeks, *coins])
    assert find_similar(archive, "E", window=20).left_out == 0
    assert find_similar(archive, "C", window=20).left_out == 19


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"by": "looks"}, "unknown_measure"),
        ({"window": 3}, "invalid_argument"),
        ({"window": 2_001}, "invalid_argument"),
        ({"top": 0}, "invalid_argument"),
        ({"horizons": ()}, "invalid_argument"),
        ({"horizons": (0,)}, "invalid_argument"),
        ({"apart": 61}, "invalid_argument"),
        ({"by": "dtw", "band": 60}, "invalid_argument"),
    ],
)
def test_arguments_out_of_bounds_are_refused(archive: Archive, words: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as refused:
        find_similar(archive, "A", **words)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("by", "closes", "code"),
    [
        ("shape", [*walk(1, 100), *[7.0] * 20], "flat_window"),
        ("dtw", [*walk(1, 100), *[7.0] * 20], "flat_window"),
        ("shape", walk(1, 19), "too_few_bars"),
        ("shape", walk(1, 39), "nothing_to_compare"),
        ("regime", walk(1, BARS_MIN - 1), "too_few_bars"),
        ("regime", walk(1, BARS_MIN + 10), "nothing_to_compare"),
    ],
)
def test_data_that_cannot_be_searched_say_why(
    archive: Archive, by: str, closes: list[float], code: str
) -> None:
    archive.write([batch("A", closes)])
    with pytest.raises(DataError) as refused:
        find_similar(archive, "A", by=by, window=20)
    assert refused.value.code == code
    with pytest.raises(DataError, match="not in the archive"):
        find_similar(archive, "Z", by=by)


def test_the_vectors_of_all_bars_are_those_of_each(apple: pl.DataFrame) -> None:
    vectors = regime_vectors(apple)
    assert np.isnan(vectors[: BARS_MIN - 1]).all()
    for end in (BARS_MIN, 500, 755, 1_300, 2_222, apple.height):
        np.testing.assert_allclose(vectors[end - 1], regime_vector(apple.head(end)), rtol=1e-6, atol=1e-6)


def test_the_vectors_know_no_future(apple: pl.DataFrame) -> None:
    whole = regime_vectors(apple)
    for height in (BARS_MIN, 800, 1_999):
        assert regime_vectors(apple.head(height)).tobytes() == whole[:height].tobytes()
    assert np.isnan(regime_vectors(apple.head(100))).all()


def test_the_vectors_of_a_market_that_stands_still_and_of_one_with_a_bad_close(apple: pl.DataFrame) -> None:
    still = apple.head(400).with_columns(open=100.0, high=100.0, low=100.0, close=100.0, volume=5.0)
    np.testing.assert_array_equal(regime_vectors(still)[BARS_MIN - 1 :], 0.0)
    bad = apple.head(500).with_columns(
        pl.when(pl.int_range(pl.len()) == 300).then(None).otherwise("close").alias("close")
    )
    unknown = np.isnan(regime_vectors(bad)[:, 0])
    assert np.flatnonzero(unknown[BARS_MIN - 1 :]).tolist() == [at - BARS_MIN + 1 for at in range(300, 365)]
