"""Canaries: secrets planted wherever a desk holds some are found in no output, no log and no file of it."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, StdioServerParameters, stdio_client
from pydantic import SecretStr

from neural_trader_governance.redaction import HIDDEN, names_secret, redact, redact_line, remember
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.logs import configure_logs
from neural_trader_server.settings import Settings

Run = Callable[..., "CompletedProcess[str]"]
CANARY = "c4n4ry"
ENVIRONMENT = {
    "NEURAL_TRADER_ALERT_WEBHOOKS": json.dumps([f"http://127.0.0.1:9/hook/{CANARY}-webhook-path"]),
    "NEURAL_TRADER_ALERT_WEBHOOK_SECRET": f"{CANARY}-webhook-secret",
    "NEURAL_TRADER_APPROVER_PASSPHRASE": f"{CANARY}-passphrase-of-a-person",
    "NEURAL_TRADER_LOG_PASSPHRASE": f"{CANARY}-passphrase-of-the-log",
    "E2B_API_KEY": f"{CANARY}-key-of-a-cloud",
    "NEURAL_TRADER_LOG_LEVEL": "debug",
    "NEURAL_TRADER_LOG_FORMAT": "json",
}
API_KEY = f"ntk_{CANARY}_0123456789abcdefghij"
BEARER = f"Bearer {CANARY}.0123456789.abcdefghij"
COMMANDS = [
    ("doctor", "--json"),
    ("halt", "--reason", f"an agent said {API_KEY}"),
    ("resume",),
    ("orders", "list"),
    ("orders", "approve", f"pv_{API_KEY}"),
    ("orders", "cancel", API_KEY, "--json"),
    ("alerts", "test", "--json"),
    ("alerts", "list"),
    ("taint", "list"),
    ("taint", "clear", "--agent", API_KEY, "--reason", "x"),
    ("policy", "check", f"/nowhere/{API_KEY}"),
    ("audit", "tail"),
    ("audit", "verify", "--vkey", "/nowhere"),
    ("memory", "search", BEARER),
    ("data", "list", "--json"),
]


def private_keys(home: Home) -> list[str]:
    """The part of each private key file that nobody may see."""
    found = [path.read_text().strip().split("+", 4)[-1] for path in home.keys.glob("*.key")]
    assert found, "the home has keys to look for"
    return found


def leaks(home: Home, *outputs: str) -> list[str]:
    """Returns which planted secrets are found in the outputs, or in the home's files but its keys."""
    secrets = [CANARY, *private_keys(home)]
    found = [secret for secret in secrets for output in outputs if secret in output]
    for path in home.path.rglob("*"):
        if path.is_file() and home.keys not in path.parents:
            data = path.read_bytes()
            found += [f"{path.name}: {secret}" for secret in secrets if secret.encode() in data]
    return found


@pytest.fixture
def run(home: Home, starter: Any) -> Run:
    """`run(*words)`: a command with every secret in its environment."""
    return functools.partial(
        starter.run, environment={**os.environ, **ENVIRONMENT, "NEURAL_TRADER_HOME": str(home.path)}
    )


def test_no_command_prints_or_stores_a_secret(home: Home, run: Run) -> None:
    outputs: dict[str, str] = {}
    for words in COMMANDS:
        ended = run(*words)
        outputs[" ".join(words)] = ended.stdout + ended.stderr
    assert HIDDEN in "".join(outputs.values()), "something was there to hide"
    assert [words for words, said in outputs.items() if CANARY in said] == []
    assert leaks(home, *outputs.values()) == []


def test_a_setting_or_a_key_that_is_wrong_is_not_quoted(home: Home, run: Run, command: Run) -> None:
    home.config.write_text(f'alert_webhook_secret = "{CANARY[:4]}-{CANARY}"\nalert_webhooks = ["{BEARER}"]\n')
    wrong = command("doctor")
    assert wrong.returncode == 1
    assert "secret_in_config" in wrong.stderr
    home.config.unlink()
    home.log_key.chmod(0o600)
    home.log_key.write_text(f"PRIVATE+KEY+log+00000000+{CANARY}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
    broken = run("audit", "tail")
    assert broken.returncode == 1
    assert CANARY not in wrong.stdout + wrong.stderr + broken.stdout + broken.stderr


@pytest.mark.anyio
async def test_no_failing_tool_call_of_a_real_server_says_a_secret(home: Home, tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "stderr"
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "neural_trader_server", "serve", "--toolsets", "all"],
        env={**os.environ, **ENVIRONMENT, "NEURAL_TRADER_HOME": str(home.path)},
    )
    source = f"def signals(bars):\n    raise ValueError('{BEARER} {API_KEY}')\n"
    calls: list[tuple[str, dict[str, object]]] = [
        ("market_get_bars", {"symbol": API_KEY}),
        ("market_get_bars", {"symbol": "AAPL", "interval": BEARER}),
        ("market_search", {"query": 5}),
        ("strategy_check", {"source": source, "symbol": "AAPL"}),
        ("artifact_read", {"handle": API_KEY}),
        ("orders_submit", {"preview_id": API_KEY}),
        ("orders_cancel", {"client_order_id": API_KEY}),
        ("backtest_get", {"run_id": API_KEY}),
        ("audit_search", {"type": API_KEY}),
        ("status_get", {API_KEY: 1}),
        ("status_get", {}),
        (API_KEY, {}),
        ("trading_halt", {"reason": "the end of this test"}),
    ]
    with log.open("w+") as errlog:
        async with Client(stdio_client(parameters, errlog=errlog)) as client:
            for name, arguments in calls:
                said.append((await client.call_tool(name, arguments)).model_dump_json())
        errlog.flush()
    assert HIDDEN in "".join(said)
    assert leaks(home, *said, log.read_text()) == []


@pytest.fixture
def logs() -> Iterator[None]:
    """Lets a test configure logging, and puts it back as it was."""
    root, handlers, hook = logging.getLogger(), list(logging.getLogger().handlers), sys.excepthook
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    sys.excepthook = hook


@pytest.mark.anyio
@pytest.mark.parametrize("style", ["json", "console"])
async def test_a_crash_with_a_secret_in_its_words_tells_nobody(
    home: Home,
    style: str,
    logs: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logs("debug", style)  # pyright: ignore[reportArgumentType]  # one of the two above
    remember(f"{CANARY} a passphrase in plain words")

    def crash(*_: object, **__: object) -> object:
        raise RuntimeError(f"{BEARER}, api_key={CANARY}, {CANARY} a passphrase in plain words")

    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        monkeypatch.setattr(type(services.archive), "instruments", crash)
        answer = await client.call_tool("market_search", {"query": "apple"})
        structlog.get_logger("neural_trader_server.test").error(
            "x",
            api_key=CANARY,
            nested={"password": CANARY},
            wrapped=SecretStr(CANARY),
            list=[{"token": CANARY}],
        )
        logging.getLogger("some.library").error("sent with passphrase=%s", CANARY)
    heard = capfd.readouterr()
    assert answer.is_error
    assert "internal_error" in answer.model_dump_json()
    assert "tool_crashed" in heard.err, "the crash itself is told"
    assert CANARY not in heard.err + heard.out + answer.model_dump_json()


@given(st.text(), st.sampled_from([API_KEY, BEARER, "PRIVATE+KEY+desk+0a1b2c3d+" + "A" * 44]), st.text())
def test_a_secret_is_hidden_wherever_it_stands(before: str, secret: str, after: str) -> None:
    assert secret not in redact(f"{before} {secret} {after}")


@given(
    st.dictionaries(st.text(), st.text() | st.sampled_from([API_KEY, BEARER, "-----BEGIN PRIVATE KEY-----x"]))
)
def test_a_json_document_stays_one_when_its_secrets_are_hidden(document: dict[str, str]) -> None:
    assert json.loads(redact(json.dumps(document))).keys() is not None


def test_ordinary_words_are_left_as_they_are() -> None:
    for text in (
        "the token bucket holds 100; skip-level secrets of the trade; key.rotate",
        "neural-trader.local/desk/0a1b2c3d+11223344+AQIDBA==",
        "order nt_0123456789ab filled 100 AAPL at 150.25",
    ):
        assert redact(text) == text
    assert redact_line("password=hunter2 user=alice") == f"password={HIDDEN} user=alice"
    assert names_secret("alert_webhook_secret")
    assert not names_secret("tokens")
