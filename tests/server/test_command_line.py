"""The command line: teaching help, exit codes, one JSON document on stdout and nothing else there."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from neural_trader_server.cli.root import app
from neural_trader_server.home import Home

Command = Callable[..., "CompletedProcess[str]"]
"""`command(*words)` in a process of its own, `here(*words)` in this one: returncode, stdout, stderr."""


def every_command() -> Iterator[list[str]]:
    """Yields the words of every command and group."""
    root = get_command(app)

    def walk(node: object, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, child in getattr(node, "commands", {}).items():
            yield from walk(child, [*words, name])

    yield from walk(root, [])


CONTRACT = """
demo; setup; init; serve; install; doctor; halt; resume
data import; data fetch; data list; data replay step; features list; features compute; backtest run
backtest report; backtest compare
sandbox doctor; sandbox run; orders list; orders approve; orders reject; orders cancel; orders reconcile
policy check; policy prove; policy diff; policy activate; policy explain; policy replay; usage
witness serve; witness cosign; witness status; audit verify; audit tail; audit search; audit show; audit prove
audit export; memory search; memory list; memory export; memory import; memory reindex; memory verify
"""


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_teaches(words: list[str]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output
    assert len(done.output) > 200


def test_the_names_of_the_contract_are_there() -> None:
    names = {" ".join(words) for words in every_command()}
    assert {name.strip() for name in CONTRACT.replace("\n", ";").split(";") if name.strip()} <= names


HEAVY = {
    "numpy",
    "polars",
    "numba",
    "scipy",
    "pyarrow",
    "lancedb",
    "mcp",
    "starlette",
    "httpx",
    "pydantic.main",
    "websockets",
}


def test_help_imports_nothing_heavy() -> None:
    """What takes long is what is imported: 0.25 s on an idle machine."""
    script = (
        "import sys\nfrom neural_trader_server.cli import main\nsys.argv = ['neural-trader', '--help']\n"
        "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize(
    "words",
    [
        ("nope",),
        ("orders", "nope"),
        ("orders", "approve"),
        ("serve", "--transport", "carrier-pigeon"),
        ("data", "fetch", "nope"),
        ("install", "notepad"),
        ("backtest", "run", "missing.py", "--symbol", "AAPL"),
        ("audit", "verify"),
    ],
)
def test_wrong_usage_exits_with_2(here: Command, words: tuple[str, ...]) -> None:
    done = here(*words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("serve", "--transport", "http", "--host", "0.0.0.0"), "public_bind_refused"),  # noqa: S104  # refused
        (("serve", "--transport", "http", "--host", "example.com"), "public_bind_refused"),
        (("serve", "--toolsets", "markt"), "unknown_toolset"),
        (("orders", "approve", "pv_nope"), "preview_unknown"),
        (("orders", "reject", "pv_nope"), "preview_unknown"),
        (("resume",), "not_halted"),
        (("audit", "show", "99999"), "unknown_seq"),
        (("features", "compute", "NOPE", "rsi(14)"), "unknown_symbol"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_exits_with_1(
    home: Home, here: Command, words: tuple[str, ...], code: str
) -> None:
    done = here(*words)
    assert home.path.exists()
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{code}: "), done.stderr
    assert "; " in last
    assert "Traceback" not in done.stderr


def test_a_failure_with_json_is_also_one_document(home: Home, here: Command) -> None:
    done = here("orders", "approve", "pv_nope", "--json")
    document = json.loads(done.stdout)
    assert home.path.exists()
    assert done.returncode == 1
    assert document["ok"] is False
    assert set(document["error"]) == {"code", "what", "next_step"}


@pytest.mark.parametrize(
    "words",
    [
        ("orders", "list"),
        ("orders", "reconcile"),
        ("data", "list"),
        ("features", "list"),
        ("audit", "tail"),
        ("audit", "verify"),
        ("memory", "list"),
        ("halt", "--reason", "a test"),
    ],
    ids=" ".join,
)
def test_json_is_one_document_on_stdout(home: Home, here: Command, words: tuple[str, ...]) -> None:
    done = here(*words, "--json")
    assert home.path.exists()
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stdout.count("\n") == 1


def test_a_new_home_is_founded_on_the_way_and_said_on_stderr(command: Command, tmp_path: Path) -> None:
    done = command("orders", "list", "--json")
    where = {"mode": "paper", "broker": "paper"}
    assert json.loads(done.stdout) == where | {"orders": [], "halts": [], "awaiting_approval": []}
    assert "home_founded" in done.stderr
    assert (tmp_path / "new-home" / "desk.db").exists()


def test_halt_and_resume_are_seen_by_the_next_process(home: Home, here: Command) -> None:
    assert json.loads(here("halt", "--reason", "a test", "--json").stdout)["halted"] is True
    assert home.path.exists()
    released: dict[str, object] = {"halted": False, "scope": "all", "standing": []}
    assert json.loads(here("resume", "--json").stdout) == released
    assert here("resume").returncode == 1


def test_verification_trusts_the_pinned_key_and_never_the_folders_own(
    home: Home, here: Command, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    assert here("audit", "export", str(export)).returncode == 0
    assert here("audit", "verify", str(export)).returncode == 0
    elsewhere = {"NEURAL_TRADER_HOME": str(tmp_path / "nobody")}
    assert here("audit", "verify", str(export), **elsewhere).returncode == 2
    named = here("audit", "verify", str(export), "--vkey", str(home.log_vkey), **elsewhere)
    assert named.returncode == 0
    bundle = next((export / "tile" / "entries").rglob("*.p/*"))
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    changed = here("audit", "verify", str(export), "--json")
    assert changed.returncode == 1
    assert [problem["seq"] for problem in json.loads(changed.stdout)["problems"]] != [None]


def test_settings_are_read_from_the_home_and_the_environment_wins(home: Home, here: Command) -> None:
    home.config.write_text('log_level = "loud"\n')
    wrong = here("orders", "list")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("invalid_setting: log_level")
    assert here("orders", "list", NEURAL_TRADER_LOG_LEVEL="error").returncode == 0
    home.config.write_text("log_level = ")
    assert here("orders", "list").stderr.startswith("invalid_config: ")


def test_a_script_runs_in_the_sandbox_and_its_status_decides_the_exit_code(
    here: Command, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("print('hello')\n")
    bad.write_text("open('/etc/passwd').read()\n")
    done = here("sandbox", "run", str(good), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"], document["stdout"]) == (0, "ok", "hello\n")
    done = here("sandbox", "run", str(bad), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (1, "error")
    assert set(document) >= {"status", "stdout", "stderr", "error", "wall_ms"}
    assert document["error"]["line"] == 1
