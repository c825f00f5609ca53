"""The terminal: an agent's words reach a person's eye and not the terminal's ear."""

import json

import pytest
import structlog
from rich.text import Text

from neural_trader_governance.errors import RiskError
from neural_trader_server.cli import terminal
from neural_trader_server.logs import configure_logs

ATTACK = "buy 1 AAPL\x1b[1A\x1b[2K\x9b31m\u202e0001\r\x07 [bold]x[/]"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    terminal.out.cache_clear()
    terminal.err.cache_clear()


def unseen(text: str) -> set[str]:
    return {each for each in text if each in "\x1b\x9b\u202e\r\x07"}


def test_no_table_line_or_failure_carries_an_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_table("Waiting", ("reason",), [(ATTACK,)])
    terminal.out().print(ATTACK, markup=False)
    terminal.out().print(Text(ATTACK))
    terminal.fail(RiskError("denied", ATTACK, ATTACK))
    shown = capsys.readouterr()
    assert unseen(shown.out + shown.err) == set()
    assert shown.out.count("\\x1b[2K") == 3
    assert "\\u202e" in shown.err


def test_json_says_the_same_without_a_character_that_acts(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"reason": ATTACK + "\x7f", "who": "für 買い"}
    terminal.emit(document)
    text = capsys.readouterr().out
    assert unseen(text) | ({"\x7f"} & set(text)) == set()
    assert "für 買い" in text
    assert json.loads(text) == document


def test_the_log_of_a_terminal_forges_no_line_and_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    configure_logs("warning", "console")
    try:
        structlog.get_logger("neural_trader_server.x").warning(
            "told", reason=f"x\n2026 [error] all is well {ATTACK}", nested={"deep": [ATTACK]}
        )
    finally:
        structlog.reset_defaults()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "\\x0a2026 [error] all is well" in lines[0]
    assert not {"\x9b", "\u202e", "\r", "\x07"} & set(lines[0])
    assert "\x1b[2K" not in lines[0]
