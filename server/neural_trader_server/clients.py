"""Clients: the configuration with which each one starts our server, and how to add it safely."""

import base64
import json
import os
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from neural_trader_governance.errors import ConfigurationError

Client = Literal["claude-code", "claude-desktop", "cursor", "vscode", "codex"]
CLIENTS: tuple[Client, ...] = ("claude-code", "claude-desktop", "cursor", "vscode", "codex")
NAME = "neural-trader"


@dataclass(frozen=True, slots=True)
class Launch:
    """The process that a client starts: our server over stdio."""

    command: str
    args: tuple[str, ...]
    env: dict[str, str]

    @classmethod
    def current(cls, options: tuple[str, ...] = ()) -> "Launch":
        """Returns the launch of this very installation, on this home if one is named.

        The interpreter is named in full: clients start servers without a shell or an activated venv.
        """
        home = os.environ.get("NEURAL_TRADER_HOME")
        env = {"NEURAL_TRADER_HOME": str(Path(home).expanduser().absolute())} if home else {}
        return cls(sys.executable, ("-m", "neural_trader_server", "serve", *options), env)

    @classmethod
    def installed(cls) -> "Launch":
        """Returns the launch of whatever `neural-trader` the client finds: what a link for anybody can say.

        It downloads nothing: a link that named a package would run whoever publishes under that name.
        """
        return cls(NAME, ("serve",), {})

    def entry(self) -> dict[str, Any]:
        """Returns the JSON object that clients call a server."""
        return {"command": self.command, "args": list(self.args)} | ({"env": self.env} if self.env else {})

    def shell(self) -> str:
        """Returns the same as words for a shell."""
        return shlex.join([self.command, *self.args])


def config_file(client: Client) -> Path:
    """Returns the file in which the client keeps its servers (Claude Code, VS Code: this project's)."""
    if client == "claude-code":
        return Path.cwd() / ".mcp.json"
    if client == "vscode":
        return Path.cwd() / ".vscode" / "mcp.json"
    if client == "cursor":
        return Path.home() / ".cursor" / "mcp.json"
    if client == "codex":
        return Path(os.environ.get("CODEX_HOME", Path.home() / ".codex")) / "config.toml"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    return base / "Claude" / "claude_desktop_config.json"


def configuration(client: Client, launch: Launch) -> str:
    """Returns the text that belongs into `config_file(client)`."""
    if client == "codex":
        lines = [f"[mcp_servers.{NAME}]", f"command = {json.dumps(launch.command)}"]
        lines.append(f"args = {json.dumps(list(launch.args))}")
        if launch.env:
            pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in launch.env.items())
            lines.append(f"env = {{ {pairs} }}")
        return "\n".join(lines) + "\n"
    key, entry = _section(client, launch)
    return json.dumps({key: {NAME: entry}}, indent=2) + "\n"


def one_line(client: Client, launch: Launch) -> str:
    """Returns one line that attaches the server: a shell command, or a link for Cursor."""
    if client == "claude-code":
        env = "".join(f" -e {shlex.quote(f'{key}={value}')}" for key, value in launch.env.items())
        return f"claude mcp add {NAME}{env} -- {launch.shell()}"
    if client == "vscode":
        return f"code --add-mcp {shlex.quote(json.dumps({'name': NAME} | launch.entry()))}"
    if client == "cursor":
        return f"cursor://anysphere.cursor-deeplink/mcp/install?{_cursor_query(launch)}"
    return f"{NAME} install {client}"


def web_link(client: Literal["cursor", "vscode"], launch: Launch) -> str:
    """Returns an https address that hands the configuration to the client; GitHub keeps no other scheme.

    Sources: Cursor's "MCP Install Links" names the parameters, and READMEs carry its buttons in this form;
    the redirect of VS Code's own site leads to `vscode:mcp/install`, as in READMEs of Microsoft's servers.
    """
    if client == "cursor":
        return f"https://cursor.com/en/install-mcp?{_cursor_query(launch)}"
    config = quote(json.dumps({"type": "stdio"} | launch.entry(), separators=(",", ":")), safe="")
    return f"https://insiders.vscode.dev/redirect/mcp/install?name={NAME}&config={config}"


def badges() -> str:
    """Returns the README's line of install buttons, whose pictures lie in this repository."""
    named: tuple[tuple[Literal["cursor", "vscode"], str], ...] = (("cursor", "Cursor"), ("vscode", "VS Code"))
    launch = Launch.installed()
    return " ".join(
        f"[![Install in {name}](docs/badges/{client}.svg)]({web_link(client, launch)})"
        for client, name in named
    )


def _cursor_query(launch: Launch) -> str:
    encoded = base64.b64encode(json.dumps(launch.entry()).encode()).decode()
    return f"name={NAME}&config={quote(encoded, safe='')}"


def write(client: Client, launch: Launch) -> tuple[Path, Path | None]:
    """Adds the server to the client's file, keeping everything else and a backup of it.

    Returns:
        The file, and the backup of what stood there before (None if the file is new).

    Raises:
        ConfigurationError: the file is not what its name says, or another entry stands in the way.
    """
    path = config_file(client)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    after = (
        _merged_toml(path, before, launch)
        if client == "codex"
        else _merged_json(path, before, client, launch)
    )
    backup = None
    if before is not None and before != after:
        backup = path.with_name(f"{path.name}.before-{NAME}")
        shutil.copy2(path, backup)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(after, encoding="utf-8")
    os.replace(partial, path)
    return path, backup


def _section(client: Client, launch: Launch) -> tuple[str, dict[str, Any]]:
    if client == "vscode":
        return "servers", {"type": "stdio"} | launch.entry()
    return "mcpServers", launch.entry()


def _merged_json(path: Path, before: str | None, client: Client, launch: Launch) -> str:
    try:
        document: Any = json.loads(before) if before and before.strip() else {}
    except ValueError as error:
        raise _unreadable(path, f"is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _unreadable(path, "holds no JSON object")
    key, entry = _section(client, launch)
    merged = cast("dict[str, Any]", document)
    servers = merged.setdefault(key, {})
    if not isinstance(servers, dict):
        raise _unreadable(path, f"holds a {key} that is no object")
    cast("dict[str, Any]", servers)[NAME] = entry
    return json.dumps(merged, indent=2, ensure_ascii=False) + "\n"


def _merged_toml(path: Path, before: str | None, launch: Launch) -> str:
    text = before or ""
    try:
        present = tomllib.loads(text).get("mcp_servers", {})
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, f"is not TOML ({error})") from error
    wanted = configuration("codex", launch)
    if NAME in present:
        if wanted in text:
            return text
        # Rewriting TOML would lose the person's comments, so a differing entry is theirs to remove.
        raise ConfigurationError(
            "client_entry_exists",
            f"{path} already has another [mcp_servers.{NAME}]",
            "remove that table, or paste what `--print` shows over it",
        )
    return text + ("\n" if text and not text.endswith("\n\n") else "") + wanted


def _unreadable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        "client_config_unreadable", f"{path} {why}", "fix the file, or add what `--print` shows by hand"
    )
