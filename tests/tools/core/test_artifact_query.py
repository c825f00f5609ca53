"""`artifact_query`: a question in SQL about one frame, in a child that has nothing else."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest

from neural_trader_governance.errors import InputError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.core.artifact_query import ENTRY, LIMITS, ROWS_MAX, artifact_query

pytestmark = pytest.mark.anyio
DAYS = 1_500


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sandbox(lacking: Callable[[str], NoReturn]) -> AsyncGenerator[LocalSandbox]:
    opened = LocalSandbox(preload=("numpy", "polars", "neural_trader_tools.core.querying"))
    report = await opened.probe()
    if not report.ok:
        lacking(f"no sandbox on this host ({[layer.name for layer in report.layers if not layer.holds]})")
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def handle(artifacts: Artifacts) -> str:
    start = datetime(2012, 1, 3, tzinfo=UTC)
    return artifacts.put(
        pl.DataFrame(
            {
                "event_time": [start + timedelta(days=day) for day in range(DAYS)],
                "symbol": ["AAPL", "MSFT"] * (DAYS // 2),
                "close": [float(day) for day in range(DAYS - 1)] + [float("nan")],
            }
        ),
        "bars",
    )


async def test_rows_are_filtered_grouped_and_ordered(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str
) -> None:
    sql = (
        "SELECT symbol, count(*) AS days, max(close) AS top FROM artifact WHERE close < 1000"
        " GROUP BY symbol ORDER BY symbol"
    )
    found = await artifact_query(artifacts, sandbox, handle=handle, sql=sql)
    assert found.columns == {"symbol": ["AAPL", "MSFT"], "days": [500, 500], "top": [998.0, 999.0]}
    assert found.row_count == 2
    assert found.note is None


async def test_times_and_missing_numbers_are_json(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str
) -> None:
    sql = "SELECT event_time, close FROM artifact ORDER BY event_time DESC LIMIT 1;"
    found = await artifact_query(artifacts, sandbox, handle=handle, sql=sql)
    assert found.columns == {"event_time": ["2016-02-10T00:00:00Z"], "close": [None]}


async def test_what_does_not_fit_is_left_out_and_said(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str
) -> None:
    found = await artifact_query(artifacts, sandbox, handle=handle, sql="SELECT * FROM artifact")
    shown = len(found.columns["close"])
    assert found.row_count == DAYS
    assert 0 < shown < ROWS_MAX
    assert found.note is not None
    assert f"{DAYS - shown:,} rows are left out" in found.note
    assert len(found.model_dump_json()) <= 8_000


async def test_a_misspelt_column_is_named(artifacts: Artifacts, sandbox: LocalSandbox, handle: str) -> None:
    with pytest.raises(InputError, match=r"unknown_column.*did you mean close") as raised:
        await artifact_query(artifacts, sandbox, handle=handle, sql="SELECT max(clsoe) FROM artifact")
    assert "event_time, symbol, close" in str(raised.value)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("", "not_a_query"),
        ("-- SELECT", "not_a_query"),
        ("DROP TABLE artifact", "not_a_query"),
        ("CREATE TABLE x AS SELECT * FROM artifact", "not_a_query"),
        ("TRUNCATE TABLE artifact", "not_a_query"),
        ("SELECT 1; DROP TABLE artifact", "several_statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", "no_files"),
        ("SELECT * FROM /* x */ READ_PARQUET ('a')", "no_files"),
        ("SELECT * FROM scan_ndjson('a')", "no_files"),
        ("SELECT '" + "x" * 4000 + "'", "sql_too_long"),
        ("SELECT * FROM elsewhere", "query_failed"),
        ("SELECT FROM WHERE", "query_failed"),
    ],
)
async def test_anything_but_a_question_about_the_rows_is_refused(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str, sql: str, code: str
) -> None:
    with pytest.raises(InputError, match=code):
        await artifact_query(artifacts, sandbox, handle=handle, sql=sql)


async def test_words_of_files_may_stand_in_texts(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str
) -> None:
    sql = "SELECT 'read_csv(1); DROP' AS text FROM artifact LIMIT 1"
    found = await artifact_query(artifacts, sandbox, handle=handle, sql=sql)
    assert found.columns == {"text": ["read_csv(1); DROP"]}


async def test_a_query_that_runs_away_is_ended_and_the_next_one_answered(
    artifacts: Artifacts, sandbox: LocalSandbox, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(LIMITS, wall_time_s=1.0)
    monkeypatch.setattr("neural_trader_tools.core.artifact_query.LIMITS", short)
    sql = (
        "SELECT a.close, b.close AS other, c.close AS third FROM artifact a CROSS JOIN artifact b"
        " CROSS JOIN artifact c ORDER BY other"
    )
    with pytest.raises(InputError, match=r"query_too_large|query_failed"):
        await artifact_query(artifacts, sandbox, handle=handle, sql=sql)
    found = await artifact_query(artifacts, sandbox, handle=handle, sql="SELECT count(*) AS n FROM artifact")
    assert found.columns == {"n": [DAYS]}


async def test_an_unknown_handle_is_refused(artifacts: Artifacts, sandbox: LocalSandbox) -> None:
    with pytest.raises(InputError, match="unknown_handle"):
        await artifact_query(artifacts, sandbox, handle="../keys/log.key", sql="SELECT 1")


async def test_what_the_check_of_words_would_let_through_the_child_cannot_open(
    sandbox: LocalSandbox, artifacts: Artifacts, handle: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhidden\n", encoding="utf-8")
    buffer = BytesIO()
    artifacts.get(handle).write_ipc_stream(buffer)
    tables = {"artifact": buffer.getvalue()}
    for file in (str(secret), "/etc/passwd", "/proc/self/environ"):
        sql = f"SELECT * FROM read_csv('{file}')"  # noqa: S608  # the attack itself
        result = await sandbox.run(Job(ENTRY, {"sql": sql, "rows_max": 5}, tables), limits=LIMITS)
        assert result.status in ("error", "killed"), result
