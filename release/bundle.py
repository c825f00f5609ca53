"""The MCPB bundle: a folder that `mcpb pack` makes one file of, which desktop clients install by a click.

    python -m release.bundle WHEEL FOLDER          # then: mcpb validate FOLDER; mcpb pack FOLDER OUT.mcpb

It is of the type `uv` (manifest 0.4): when the server starts first, uv makes an environment of the pinned
versions and of our wheel, which lies in the bundle. Only Linux is named, because strategies run in a sandbox
that other systems do not have.
"""

import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.gate import DEFAULT_TOOLSETS

ROOT = Path(__file__).parents[1]
ENTRY = "src/serve.py"
SERVE = '''"""Starts the desk over stdio for the client that installed this bundle."""

from neural_trader_server.cli import main

main()
'''
PLACES = {
    "name": "neural-trader",
    "display_name": "Neural Trader",
    "description": "A trading desk for agents: data, backtests in a sandbox, governed and audited orders.",
    "author": {"name": "The Neural Trader authors"},
    "license": "MIT",
    "keywords": ["trading", "backtesting", "audit", "sandbox"],
}
LONG = (
    "Real market data, features, backtests of strategies in a sandbox, and paper orders behind policy, a"
    " person's approval and a signed audit log. Orders are opt-in: add `trading` to the toolsets. The first"
    " start installs about 1 GB of Python packages. Sample prices and the embedder's weights come with"
    " `uv run --directory FOLDER_OF_THE_BUNDLE neural-trader setup`."
)


def version_of(wheel: Path) -> str:
    """Returns the version in a wheel's file name."""
    return wheel.name.split("-")[1]


def manifest(version: str) -> dict[str, Any]:
    """Returns manifest.json; names and words of the tools are the catalogue's own."""
    tools = [
        {"name": spec.name, "description": " ".join((inspect.getdoc(spec.load()) or "").split())}
        for spec in CATALOGUE
        if spec.toolset in DEFAULT_TOOLSETS
    ]
    launch = ["run", "--directory", "${__dirname}", ENTRY, "serve", "--toolsets", "${user_config.toolsets}"]
    return {
        "manifest_version": "0.4",
        **PLACES,
        "version": version,
        "long_description": LONG,
        "server": {
            "type": "uv",
            "entry_point": ENTRY,
            "mcp_config": {
                "command": "uv",
                "args": launch,
                "env": {"NEURAL_TRADER_HOME": "${user_config.home}"},
            },
        },
        "tools": tools,
        "tools_generated": True,  # `trading`, where the toolsets name it
        "prompts_generated": True,
        "compatibility": {"platforms": ["linux"], "runtimes": {"python": ">=3.11"}},
        "user_config": {
            "home": {
                "type": "directory",
                "title": "Home folder",
                "description": "Where keys, the audit log, prices and memories are kept.",
                "default": "${HOME}/.local/share/neural-trader",
                "required": True,
            },
            "toolsets": {
                "type": "string",
                "title": "Toolsets",
                "description": "What the agent may use; add trading for orders.",
                "default": ",".join(DEFAULT_TOOLSETS),
                "required": True,
            },
        },
    }


def project(wheel: Path, pins: list[str]) -> str:
    """Returns the pyproject.toml that uv reads: our wheel, and every version pinned."""
    lines = [
        "[project]",
        'name = "neural-trader-bundle"',
        f'version = "{version_of(wheel)}"',
        'requires-python = ">=3.11"',
        'dependencies = ["neural-trader"]',
        "",
        "[tool.uv]",
        "package = false",
        "constraint-dependencies = [",
        *[f"  {json.dumps(pin)}," for pin in pins],
        "]",
        "",
        "[tool.uv.sources]",
        f'neural-trader = {{ path = "{wheel.name}" }}',
    ]
    return "\n".join(lines) + "\n"


def write(wheel: Path, folder: Path) -> None:
    """Writes the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "src").mkdir(parents=True)
    shutil.copy2(wheel, folder / wheel.name)
    shutil.copy2(ROOT / "LICENSE", folder / "LICENSE")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (folder / "pyproject.toml").write_text(project(wheel, pins), encoding="utf-8")
    (folder / ENTRY).write_text(SERVE, encoding="utf-8")
    text = json.dumps(manifest(version_of(wheel)), indent=2, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
