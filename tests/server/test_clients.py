"""Clients: each configuration parses as its client reads it, and merging loses nothing."""

import base64
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.clients import (
    CLIENTS,
    Client,
    Launch,
    badges,
    config_file,
    configuration,
    one_line,
    web_link,
    write,
)

ROOT = Path(__file__).parents[2]
LAUNCH = Launch("/opt/py thon", ("-m", "neural_trader_server", "serve"), {"NEURAL_TRADER_HOME": "/tmp/a b"})  # noqa: S108  # never opened


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]  # autouse
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("CODEX_HOME", raising=False)


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "codex"])
def test_a_json_client_is_told_command_arguments_and_home(client: Client) -> None:
    document = json.loads(configuration(client, LAUNCH))
    entry = document["servers" if client == "vscode" else "mcpServers"]["neural-trader"]
    assert entry["command"] == "/opt/py thon"
    assert entry["args"] == ["-m", "neural_trader_server", "serve"]
    assert entry["env"] == {"NEURAL_TRADER_HOME": "/tmp/a b"}  # noqa: S108  # never opened


def test_codex_is_told_in_toml() -> None:
    entry = tomllib.loads(configuration("codex", LAUNCH))["mcp_servers"]["neural-trader"]
    assert entry == {"command": LAUNCH.command, "args": list(LAUNCH.args), "env": LAUNCH.env}


def test_the_one_lines_carry_the_whole_launch() -> None:
    claude = shlex.split(one_line("claude-code", LAUNCH))
    assert claude[claude.index("--") + 1 :] == [LAUNCH.command, *LAUNCH.args]
    assert "NEURAL_TRADER_HOME=/tmp/a b" in claude
    assert json.loads(shlex.split(one_line("vscode", LAUNCH))[2])["args"] == list(LAUNCH.args)
    query = parse_qs(urlsplit(one_line("cursor", LAUNCH)).query)
    assert json.loads(base64.b64decode(query["config"][0]))["command"] == LAUNCH.command


@pytest.mark.parametrize("client", CLIENTS)
def test_writing_twice_changes_nothing_the_second_time(client: Client) -> None:
    path, backup = write(client, LAUNCH)
    assert backup is None
    first = path.read_text()
    assert write(client, LAUNCH) == (path, None)
    assert path.read_text() == first


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "codex"])
def test_merging_keeps_the_other_servers_and_a_backup(client: Client) -> None:
    path = config_file(client)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = "servers" if client == "vscode" else "mcpServers"
    before = json.dumps({key: {"other": {"command": "x"}}, "theme": "ü"})
    path.write_text(before, encoding="utf-8")
    _, backup = write(client, LAUNCH)
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["theme"] == "ü"
    assert set(after[key]) == {"other", "neural-trader"}
    assert backup is not None
    assert backup.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("text", ["{", "[]", '{"mcpServers": []}'])
def test_a_file_that_is_not_understood_is_left_alone(text: str) -> None:
    path = config_file("cursor")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        write("cursor", LAUNCH)
    assert path.read_text() == text


def test_a_differing_codex_entry_is_left_to_its_owner() -> None:
    path = config_file("codex")
    path.parent.mkdir(parents=True)
    path.write_text('# mine\n[mcp_servers.neural-trader]\ncommand = "x"\n')
    with pytest.raises(ConfigurationError, match="client_entry_exists"):
        write("codex", LAUNCH)
    assert path.read_text().startswith("# mine")


def test_the_current_launch_is_this_interpreter_and_names_a_chosen_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NEURAL_TRADER_HOME", raising=False)
    assert Launch.current() == Launch(sys.executable, ("-m", "neural_trader_server", "serve"), {})
    monkeypatch.setenv("NEURAL_TRADER_HOME", "relative")
    assert Path(Launch.current().env["NEURAL_TRADER_HOME"]).is_absolute()


@pytest.mark.parametrize("launch", [LAUNCH, Launch.installed()])
def test_the_links_of_web_pages_say_what_the_configuration_says(launch: Launch) -> None:
    written = json.loads(configuration("cursor", launch))["mcpServers"]["neural-trader"]
    query = parse_qs(urlsplit(web_link("cursor", launch)).query)
    assert json.loads(base64.b64decode(query["config"][0])) == written
    assert query["name"] == ["neural-trader"]
    written = json.loads(configuration("vscode", launch))["servers"]["neural-trader"]
    query = parse_qs(urlsplit(web_link("vscode", launch)).query)
    assert json.loads(query["config"][0]) == written
    assert query["name"] == ["neural-trader"]


def test_the_readme_has_these_buttons_with_pictures_of_the_repository() -> None:
    line = badges()
    assert line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    pictures = re.findall(r"\]\((docs/[^)]+)\)\]", line)
    assert len(pictures) == 2
    for picture in pictures:
        drawn = (ROOT / picture).read_text(encoding="utf-8")
        assert drawn.startswith("<svg ")
        assert "http" not in drawn.replace("http://www.w3.org/2000/svg", ""), "it loads nothing"
    links: list[str] = re.findall(r"\]\((https://[^)]+)\)", line)
    assert len(links) == 2
    assert Launch.installed().entry() == {"command": "neural-trader", "args": ["serve"]}, (
        "it fetches no package"
    )
