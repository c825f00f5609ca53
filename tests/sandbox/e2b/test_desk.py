"""The whole way: a desk whose strategies run at the service, from consent to what it cost."""

import io
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from tests.sandbox.e2b.backend import command
from tests.sandbox.e2b.service.server import Service

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_sandbox.port import Job, Limits
from neural_trader_server.app import Services, open_desk
from neural_trader_server.home import Home
from neural_trader_server.remote_sandbox import give_consent
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio

SIGNALS = """
import numpy as np
def signals(bars, n=2):
    return np.sign(bars['close'].diff(n).fill_null(0).to_numpy())
"""


async def test_from_consent_to_the_bill_on_the_command_line(e2b_service: Service, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("print('there')", encoding="utf-8")
    home = tmp_path / "home"
    run = ("sandbox", "run", str(file), "--backend", "e2b", "--json")
    refused = await command(e2b_service, home, *run)
    assert json.loads(refused.stdout)["error"]["code"] == "sandbox_consent_missing", refused.stderr
    assert e2b_service.log == []
    agreed = await command(e2b_service, home, "sandbox", "consent", "e2b", "--yes")
    assert agreed.returncode == 0, agreed.stderr
    ran = await command(e2b_service, home, *run)
    result = json.loads(ran.stdout)
    assert (result["status"], result["stdout"], result["backend"]) == ("ok", "there\n", "e2b"), ran.stderr
    assert e2b_service.api_key.encode() not in ran.stdout + ran.stderr
    usage = json.loads((await command(e2b_service, home, "usage", "--json")).stdout)
    text = json.dumps(usage)
    assert "sandbox_s" in text
    total = usage["total"]
    assert total["sandbox_s"] > 0.1, usage
    assert Decimal(str(total["cost_usd"])) >= Decimal("1.9") * Decimal(str(total["sandbox_s"])) > 0
    assert e2b_service.running() == []


@pytest.mark.slow
async def test_the_engine_decides_the_same_there_and_here(e2b_service: Service, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "sandbox_backend": "e2b",
            "e2b_api_url": e2b_service.url,
            "e2b_sandbox_url": e2b_service.url,
            "e2b_api_key": e2b_service.api_key,
        }
    )
    home = Home(tmp_path / "home")
    stream = io.BytesIO()
    times = pl.datetime_range(
        pl.datetime(2013, 1, 1), pl.datetime(2013, 3, 1), "1d", eager=True, time_zone="UTC"
    )
    close = [100 + (day * 7919 % 13) for day in range(len(times))]
    prices = {name: [float(price) for price in close] for name in ("open", "high", "low", "close")}
    pl.DataFrame({"time": times, **prices, "volume": [1.0] * len(times)}).write_ipc_stream(stream)
    sets = {"cash": 1e5, "commission_bps": 1.0, "slippage_bps": 1.0, "fill": "next_open", "lots": 0.0}
    arguments = {"source": SIGNALS, "params": {"n": 3}, "settings": sets, "seed": 1}
    job = Job("neural_trader_tools.engine.guest:run_strategy", arguments, {"bars": stream.getvalue()})  # pyright: ignore[reportArgumentType]  # JSON
    async with open_desk(home, settings) as there:
        give_consent(there, e2b_service.url.removeprefix("http://"))
        remote = await there.sandbox.run(job, Limits(wall_time_s=60))
    here = Services(home, Settings(), WallClock())
    try:
        local = await here.sandbox.run(job, Limits(wall_time_s=60))
    finally:
        await here.aclose()
    assert (remote.status, local.status, remote.backend) == ("ok", "ok", "e2b"), (remote.error, local.error)
    assert remote.value == local.value
    assert {name: column.tobytes() for name, column in remote.columns.items()} == {
        name: column.tobytes() for name, column in local.columns.items()
    }


async def test_the_command_line_writes_the_template_of_what_the_desk_runs(
    e2b_service: Service, tmp_path: Path
) -> None:
    words = ("sandbox", "template", "--write", str(tmp_path / "template"), "--json")
    written = await command(e2b_service, tmp_path / "home", *words)
    told = json.loads(written.stdout)
    names = sorted(path.name for path in (tmp_path / "template").iterdir())
    assert names == sorted(["Dockerfile", f"{told['engine']}.zip"]), written.stderr
    assert "neural_trader_tools.engine.guest" in (tmp_path / "template" / "Dockerfile").read_text("utf-8")
    assert e2b_service.log == []


async def test_no_template_is_built_and_no_key_sent_before_a_person_agreed(
    e2b_service: Service, tmp_path: Path
) -> None:
    refused = await command(e2b_service, tmp_path / "home", "sandbox", "template")
    assert refused.returncode != 0
    assert "sandbox_consent_missing" in str(refused.stderr), refused.stderr
    assert e2b_service.log == []
