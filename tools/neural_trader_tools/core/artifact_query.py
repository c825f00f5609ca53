"""`artifact_query`: read-only SQL over a frame that another tool left behind a handle.

The statement runs in the sandbox, in a single-use child that has the frame and nothing else: no file of the
desk, no network, a bound on time and memory. What it may say is checked before, so that a refusal can teach.
"""

import difflib
import re
from io import BytesIO
from typing import Annotated, Final

import anyio.to_thread
import orjson
from pydantic import BaseModel, Field, JsonValue, ValidationError

from neural_trader_governance.errors import ExecutionError, HostError, InputError
from neural_trader_sandbox.port import Fault, Job, Limits, Sandbox, SandboxResult
from neural_trader_tools.artifacts import Artifacts

ENTRY: Final = "neural_trader_tools.core.querying:run_query"
LIMITS: Final = Limits(wall_time_s=10.0, cpu_time_s=10, memory_bytes=3 << 30)
ROWS_MAX: Final = 1000
SQL_CHARS_MAX: Final = 4000
_BYTES_MAX: Final = 7000  # leaves room for the envelope within the 8 kB of a default answer
_TEXTS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_FILES = re.compile(r"\b((?:read|scan|write|sink)_\w+)\s*\(", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_]\w*")


class QueryResult(BaseModel):
    """What a statement found."""

    columns: dict[str, list[JsonValue]] = Field(description="Equal-length values by column name")
    row_count: int = Field(description="Rows found")
    note: str | None = Field(None, description="Where rows are left out")


class _Answer(BaseModel, extra="forbid"):
    """What the sandbox's child says; a stranger's until it is read."""

    columns: dict[str, list[JsonValue]]
    row_count: int = Field(ge=0)


async def artifact_query(
    artifacts: Artifacts,
    sandbox: Sandbox,
    *,
    handle: Annotated[str, Field(description="As another tool returned it")],
    sql: Annotated[
        str, Field(description="One SELECT (or WITH), such as SELECT max(close) AS top FROM artifact")
    ],
) -> QueryResult:
    """Answers a question about the rows behind a handle in SQL; they are the table `artifact`."""
    _check(sql)
    names, table = await anyio.to_thread.run_sync(_table, artifacts, handle)
    job = Job(ENTRY, {"sql": sql, "rows_max": ROWS_MAX}, {"artifact": table})
    return _read(await sandbox.run(job, limits=LIMITS), sql, names)


def _table(artifacts: Artifacts, handle: str) -> tuple[list[str], bytes]:
    frame = artifacts.get(handle)
    buffer = BytesIO()
    frame.write_ipc_stream(buffer)
    return frame.columns, buffer.getvalue()


def _check(sql: str) -> None:
    """Checks what a statement may say.

    Raises:
        InputError: it is too long, is no single SELECT, or names a file.
    """
    if len(sql) > SQL_CHARS_MAX:
        raise InputError(
            "sql_too_long", f"the statement has {len(sql):,} characters", f"write at most {SQL_CHARS_MAX:,}"
        )
    bare = _TEXTS.sub(" ", sql).strip().rstrip(";").strip()
    first = _NAME.search(bare.lstrip("( \n\t"))
    if first is None or first.start() != 0 or first.group().lower() not in ("select", "with"):
        raise InputError(
            "not_a_query",
            f"{sql.strip()!r:.60} is no SELECT",
            "write one, such as `SELECT * FROM artifact`; nothing is changed",
        )
    if ";" in bare:
        raise InputError("several_statements", "there is more than one statement", "send one at a time")
    if file := _FILES.search(bare):
        raise InputError(
            "no_files", f"{file.group(1)} would open a file, and a query sees none", "select FROM artifact"
        )


def _read(result: SandboxResult, sql: str, names: list[str]) -> QueryResult:
    """Reads what came back.

    Raises:
        InputError: the statement is wrong, or asks for more than the bounds allow.
        HostError: this host has no sandbox.
        ExecutionError: what came back is not what our own code returns.
    """
    if result.status == "refused":
        reason = result.error.message if result.error else "a layer is missing"
        raise HostError(
            "sandbox_unavailable",
            f"a query runs only inside the sandbox: {reason}",
            "run `neural-trader doctor`",
        )
    if result.status in ("timeout", "killed"):
        raise InputError(
            "query_too_large",
            f"the query took over {LIMITS.wall_time_s:g} s or {LIMITS.memory_bytes >> 30} GiB and was ended",
            "filter or aggregate first; mind joins of the table with itself",
        )
    if result.status == "error":
        raise _refused(result.error or Fault("Error", "no reason was given"), sql, names)
    try:
        answer = _Answer.model_validate(result.value)
    except ValidationError as error:
        raise ExecutionError(
            "query_answer_invalid", "the sandbox returned something else than rows", "try again"
        ) from error
    return _shown(answer)


def _refused(fault: Fault, sql: str, names: list[str]) -> InputError:
    what = " ".join(fault.message.split())[:300]
    if missing := re.match(r"relation '([^']{1,60})' was not found", what):
        return InputError(
            "query_failed", f"there is no table {missing[1]!r}", "did you mean artifact? It is the only one"
        )
    wanted: set[str] = set(_NAME.findall(_TEXTS.sub(" ", sql)))
    if fault.type in ("ColumnNotFoundError", "SQLInterfaceError", "SQLSyntaxError"):
        for word in sorted(wanted - set(names)):
            close = difflib.get_close_matches(word, names, n=1, cutoff=0.75)
            if word in what and close:
                return InputError(
                    "unknown_column", what, f"did you mean {close[0]}? columns: {', '.join(names)}"
                )
    return InputError(
        "query_failed", f"{fault.type}: {what}", f"correct it; the table artifact has {', '.join(names)}"
    )


def _shown(answer: _Answer) -> QueryResult:
    """Returns as many rows as fit into an answer, and says so where that is not all."""
    rows = min((len(values) for values in answer.columns.values()), default=0)
    used = len(orjson.dumps({name: [] for name in answer.columns}))
    shown = 0
    while shown < rows:
        used += sum(len(orjson.dumps(values[shown])) + 1 for values in answer.columns.values())
        if used > _BYTES_MAX and shown:
            break
        shown += 1
    left = answer.row_count - shown
    return QueryResult(
        columns={name: values[:shown] for name, values in answer.columns.items()},
        row_count=answer.row_count,
        note=f"{left:,} rows are left out: aggregate, or add LIMIT {shown} OFFSET {shown}" if left else None,
    )
