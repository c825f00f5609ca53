"""What every command shares: one JSON document whatever happens, words where there is nothing to show."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from neural_trader_server.cli.terminal import run_async
from neural_trader_server.home import Home

Here = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("orders", "enable", "agent-1"), "Missing option '--reason'."),
        (("orders", "nonsense"), "No such command 'nonsense'."),
        (("audit", "archive", "x"), "Invalid value: give either --before or --keep-days"),
        (("backtest", "run", "/nowhere.py", "--symbol", "AAPL"), "does not exist"),
        (("audit", "verify", "--vkey", "/nowhere"), "there is no key to trust"),
    ],
)
def test_a_wrong_use_exits_with_2_and_answers_in_json_only_where_asked(
    home: Home, here: Here, words: tuple[str, ...], what: str
) -> None:
    ended = here(*words, "--json")
    assert ended.returncode == 2
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "usage"
    assert what in error["what"]
    plain = here(*words)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert "Traceback" not in plain.stderr


def test_a_list_without_a_row_says_none(home: Home, here: Here) -> None:
    assert here("orders", "list").stdout == "Orders: none\n"
    assert here("taint", "list").stdout == "Tainted agents: none\n"


def test_an_entry_is_shown_for_people_and_on_one_line_for_programs(home: Home, here: Here) -> None:
    shown, line = here("audit", "show", "0"), here("audit", "show", "0", "--json")
    assert json.loads(shown.stdout) == json.loads(line.stdout)
    assert shown.stdout.count("\n") > line.stdout.count("\n") == 1


def test_a_name_that_no_agent_has_is_pointed_out_where_it_would_bind_nobody(home: Home, here: Here) -> None:
    mandate = ("--symbol", "AAPL", "--per-order", "100", "--cap", "1000")
    for words in (
        ("mandates", "issue", *mandate, "--agent"),
        ("usage", "budget", "--usd", "5", "--agent"),
        ("policy", "override", "max_notional", "--symbol", "AAPL", "--reason", "x", "--agent"),
        ("halt", "--reason", "x", "--agent"),
    ):
        misspelled, known = here(*words, "agent1", "--json"), here(*words, "agent-1", "--json")
        assert (misspelled.returncode, known.returncode) == (0, 0), misspelled.stderr + known.stderr
        note = "Note: no agent 'agent1' is enrolled here; enrolled: agent-1."
        assert note in misspelled.stderr, words
        assert "Note:" not in known.stderr, words
        json.loads(misspelled.stdout)


def test_the_log_names_what_people_signed(home: Home, here: Here) -> None:
    here("policy", "override", "max_notional", "--symbol", "AAPL", "--reason", "why", "--agent", "agent-1")
    here("policy", "activate", "default", "--accept-refuted")
    said = {
        entry["type"]: entry["summary"]
        for entry in json.loads(here("audit", "tail", "--json").stdout)["entries"]
    }
    assert said["override.grant"] == "owner: rules=max_notional reason=why agent=agent-1"
    assert said["policy.activate"] == "owner: version=1", "the oldest of them, of the founding"
    assert said["principal.enroll"].startswith("owner: kind=person name=owner roles=")


def test_a_signal_wakes_the_loop_that_a_command_waits_in() -> None:
    """One that comes just before the loop waits is also written to a socket, so that it does not wait."""

    async def written_to() -> int:
        wakes = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakes)
        return wakes

    assert run_async(written_to) >= 0
    assert signal.set_wakeup_fd(-1) == -1
