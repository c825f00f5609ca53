"""`artifact_read`: pages of plain JSON that add up to the whole."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from pydantic import JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.core.artifact_read import artifact_read


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


@pytest.fixture
def handle(artifacts: Artifacts) -> str:
    start = datetime(2012, 1, 3, tzinfo=UTC)
    rows = 1500
    return artifacts.put(
        pl.DataFrame(
            {
                "event_time": [start + timedelta(days=day) for day in range(rows)],
                "close": [float(day) for day in range(rows)],
            }
        ),
        "bars",
    )


@pytest.mark.anyio
async def test_the_pages_follow_each_other_to_the_end_and_each_fits_into_8_kb(
    artifacts: Artifacts, handle: str
) -> None:
    seen: list[JsonValue] = []
    cursor: str | None = None
    while True:
        page = await artifact_read(artifacts, handle=handle, cursor=cursor)
        assert len(page.model_dump_json()) <= 8000
        assert page.row_count == len(page.columns["close"]) == len(page.columns["event_time"])
        assert page.total_rows == 1500
        seen += page.columns["close"]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [float(day) for day in range(1500)]


@pytest.mark.anyio
async def test_columns_and_limit_narrow_the_page(artifacts: Artifacts, handle: str) -> None:
    page = await artifact_read(artifacts, handle=handle, columns=["close"], limit=2)
    assert page.columns == {"close": [0.0, 1.0]}
    assert page.next_cursor == "2"


@pytest.mark.anyio
async def test_cells_are_written_as_json_has_them(artifacts: Artifacts) -> None:
    handle = artifacts.put(
        pl.DataFrame(
            {
                "number": [float("nan"), 1.5],
                "time": [datetime(2012, 1, 3, 14, 30), None],  # noqa: DTZ001  # a frame without a zone is UTC here
                "day": [date(2012, 1, 3), None],
                "money": [Decimal("1.50"), None],
                "flag": [True, None],
                "text": ["ü", None],
            }
        ),
        "trades",
    )
    page = await artifact_read(artifacts, handle=handle)
    assert page.columns == {
        "number": [None, 1.5],
        "time": ["2012-01-03T14:30:00Z", None],
        "day": ["2012-01-03", None],
        "money": ["1.5", None],
        "flag": [True, None],
        "text": ["ü", None],
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"limit": 0}, "invalid_limit"),
        ({"limit": 1001}, "invalid_limit"),
        ({"cursor": "-1"}, "invalid_cursor"),
        ({"cursor": "1500"}, "invalid_cursor"),
        ({"cursor": "٣"}, "invalid_cursor"),
        ({"columns": ["clsoe"]}, "unknown_column"),
        ({"columns": []}, "invalid_columns"),
    ],
)
async def test_a_wrong_argument_says_what_is_right(
    artifacts: Artifacts, handle: str, arguments: dict[str, JsonValue], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        await artifact_read(artifacts, handle=handle, **arguments)  # pyright: ignore[reportArgumentType]  # wrong on purpose
    assert caught.value.code == code


@pytest.mark.anyio
async def test_a_misspelled_column_is_met_with_the_nearest_one(artifacts: Artifacts, handle: str) -> None:
    with pytest.raises(InputError, match="did you mean close"):
        await artifact_read(artifacts, handle=handle, columns=["clsoe"])


@pytest.mark.anyio
async def test_an_empty_artifact_is_one_empty_page(artifacts: Artifacts) -> None:
    handle = artifacts.put(pl.DataFrame({"close": pl.Series([], dtype=pl.Float64)}), "bars")
    page = await artifact_read(artifacts, handle=handle)
    assert (page.columns, page.row_count, page.next_cursor) == ({"close": []}, 0, None)
