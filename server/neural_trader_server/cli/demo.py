"""`neural-trader demo`: the main job end to end, through a real MCP client, told in the terminal."""

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from neural_trader_governance.errors import HostError, NeuralTraderError
from neural_trader_server.cli.terminal import FAILED, HOST_LACKS, Json, emit, err, out

if TYPE_CHECKING:
    from neural_trader_server.home import Home
    from neural_trader_server.stage import Stage


def demo(json_output: Json = False) -> None:
    """Run the main job end to end, with no key and no network: eight steps, each proven.

    It starts the server as a child and attaches to it as a real MCP client over stdio: status, real prices,
    features, a sandboxed backtest, memory, a governed paper order, refusals, and the audit log.

    Exits 0 only if every step did what it says, and 3 if only this host's sandbox lacks a layer.
    """
    import time

    import anyio

    from neural_trader_server.home import Home
    from neural_trader_server.logs import configure_logs

    configure_logs("warning")
    home = Home.locate()
    started = time.perf_counter()
    _prepare(home)
    steps = anyio.run(_tell, home, json_output)
    lacking = [step for step in steps if not step["ok"] and step.get("host")]
    ok = len(steps) == 8 and all(step["ok"] for step in steps)
    if json_output:
        emit({"ok": ok, "steps": [{key: step[key] for key in ("name", "ok", "result")} for step in steps]})
    else:
        _close(home, ok, time.perf_counter() - started)
    if not ok:
        raise typer.Exit(HOST_LACKS if all(step["ok"] or step in lacking for step in steps) else FAILED)


def _prepare(home: "Home") -> None:
    """Makes the home whole before the server starts: assets, keys, account, sample prices.

    Raises:
        ConfigurationError: something is missing that `neural-trader setup` brings.
    """
    import anyio

    from neural_trader_governance.audit.entries import EntryType
    from neural_trader_governance.errors import ConfigurationError
    from neural_trader_server.app import open_desk
    from neural_trader_server.assets import check_assets
    from neural_trader_server.settings import load_settings
    from neural_trader_tools.market.providers.sample import fetch_sample

    for asset in check_assets():
        if not asset.ok:
            raise ConfigurationError("asset_missing", f"{asset.name}: {asset.detail}", asset.next_step)

    async def prepare() -> None:
        async with open_desk(home, load_settings(home)) as services:
            symbols = {instrument.symbol for instrument in services.archive.instruments()}
            if not {"AAPL", "MSFT", "IBM"} <= symbols:
                err().print("Reading real sample prices into the archive …")
                written = [one.symbol for one in fetch_sample(services.archive, services.clock)]
                payload = {"provider": "sample", "symbols": written}
                services.record(services.person, EntryType.DATA_IMPORT, payload=payload)

    anyio.run(prepare)


async def _tell(home: "Home", quiet: bool) -> list[dict[str, Any]]:
    from mcp import Client, StdioServerParameters, stdio_client

    from neural_trader_server.cli.scenes import show
    from neural_trader_server.stage import Stage
    from neural_trader_server.story import STEPS

    environment = {key: value for key, value in os.environ.items() if key.startswith("NEURAL_TRADER_")}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "neural_trader_server", "serve", "--toolsets", "all"],
        env=environment | {"NEURAL_TRADER_HOME": str(home.path)},
    )
    told: list[dict[str, Any]] = []
    with (home.path / "demo-server.log").open("w", encoding="utf-8") as errors:
        async with Client(stdio_client(server, errlog=errors)) as client:
            stage = Stage(client, home)
            for number, step in enumerate(STEPS, 1):
                with err().status(f"{number}/{len(STEPS)} {step.title} …"):
                    outcome = await _act(stage, step.name, step.act)
                told.append(outcome)
                if not quiet:
                    show(number, len(STEPS), step.title, outcome)
                if not outcome["ok"] and not outcome.get("host"):
                    break
    return told


async def _act(stage: "Stage", name: str, act: Any) -> dict[str, Any]:
    try:
        facts = await act(stage)
    except NeuralTraderError as error:
        failure = {"code": error.code, "what": error.what, "next_step": error.next_step}
        return {"name": name, "ok": False, "result": {"error": failure}, "host": isinstance(error, HostError)}
    stage.facts[name] = facts
    return {"name": name, "ok": True, "result": facts}


def _close(home: "Home", ok: bool, wall_s: float) -> None:
    """Says what was written where, and how to attach a client."""
    from rich.text import Text

    from neural_trader_server.clients import Client, Launch, one_line

    written = (
        (home.path, "the home"),
        (home.desk_db, "audit log, orders, approvals"),
        (home.archive, "prices"),
        (home.research_db, "strategies and backtests"),
        (home.memory, "memories"),
        (home.artifacts, "frames behind handles"),
        (home.path / "demo" / "audit-export", "the log as tlog-tiles"),
        (home.path / "demo-server.log", "the server's log"),
    )
    out().print(Text("Written", "bold"))
    for path, what in written:
        if path.exists():
            out().print(Text(f"      {path}  {what}"), soft_wrap=True)
    launch = Launch.current(("--toolsets", "all"))
    out().print(Text("\nAttach your agent", "bold"))
    names: dict[Client, str] = {"claude-code": "Claude Code", "cursor": "Cursor", "vscode": "VS Code"}
    for client, name in names.items():
        out().print(Text.assemble((f"      {name:<12}", "dim"), one_line(client, launch)), soft_wrap=True)
    verdict = ("Every step did what it says", "bold green") if ok else ("Not every step held", "bold red")
    out().print(Text.assemble("\n", verdict, f", in {wall_s:.1f} s."))
