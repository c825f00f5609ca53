"""The file behind a handle, whole: what it holds, and to whom it is given."""

from datetime import UTC, datetime
from io import BytesIO

import httpx
import polars as pl
import pytest
from tests.hosted import hosted

from neural_trader_governance.usage import UsageLedger
from neural_trader_server.app import Services, build_server
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.home import Home
from neural_trader_tools.artifacts import Artifacts

pytestmark = pytest.mark.anyio
FRAME = pl.DataFrame(
    {
        "time": [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 5, 6)],
        "close": [1.5, None, 2.5],
        "side": ["buy", "sell", None],
    }
)


def put(home: Home) -> str:
    return Artifacts(home.artifacts).put(FRAME, "bars")


async def test_a_file_is_what_the_handle_names_byte_for_byte_and_asked_for_once(home: Home) -> None:
    handle = put(home)
    async with hosted(home) as address, httpx.AsyncClient(base_url=address) as http:
        sent = await http.get(f"/artifacts/{handle}")
        assert sent.status_code == 200
        assert sent.headers["content-type"] == "application/vnd.apache.arrow.file"
        assert sent.headers["content-disposition"] == f'attachment; filename="{handle}.arrow"'
        assert pl.read_ipc(BytesIO(sent.content)).equals(FRAME)
        again = await http.get(f"/artifacts/{handle}", headers={"If-None-Match": sent.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.post(f"/artifacts/{handle}")).status_code == 405


async def test_what_is_no_handle_leads_nowhere(home: Home) -> None:
    put(home)
    async with hosted(home) as address, httpx.AsyncClient(base_url=address) as http:
        for name in ("bars-0000000000000000", "bars-..%2f..%2fdesk.db", "desk.db", "%00"):
            refused = await http.get(f"/artifacts/{name}")
            assert refused.status_code == 404, name
        assert (await http.get("/artifacts/bars-0000000000000000")).json()["error"][
            "code"
        ] == "unknown_handle"
        foreign = await http.get(
            "/artifacts/bars-0000000000000000", headers={"Origin": "http://evil.example"}
        )
        assert foreign.status_code == 403


async def test_a_file_that_was_changed_is_not_sent(home: Home) -> None:
    handle = put(home)
    path = home.artifacts / f"{handle}.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    async with hosted(home) as address, httpx.AsyncClient(base_url=address) as http:
        refused = await http.get(f"/artifacts/{handle}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "artifact_changed")


def without_core(services: Services) -> Endpoint:
    return build_server(services, toolsets="market")


async def test_it_is_given_where_artifact_read_would_be_and_counts_as_it_does(home: Home) -> None:
    handle = put(home)
    async with hosted(home, without_core) as address, httpx.AsyncClient(base_url=address) as http:
        refused = await http.get(f"/artifacts/{handle}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "toolset_not_served")
    async with hosted(home, require_api_key=True) as address, httpx.AsyncClient(base_url=address) as http:
        refused = await http.get(f"/artifacts/{handle}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_required")
        wrong = {"Authorization": "Bearer ntk_wrong"}
        refused = await http.get(f"/artifacts/{handle}", headers=wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_invalid")
    async with hosted(home) as address, httpx.AsyncClient(base_url=address) as http:
        size = len((await http.get(f"/artifacts/{handle}")).content)
    ledger = UsageLedger(home.usage_db)
    counted = ledger.rows()
    ledger.close()
    assert [(row.calls, row.result_bytes) for row in counted] == [(1, size)]
