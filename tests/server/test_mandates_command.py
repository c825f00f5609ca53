"""`neural-trader mandates` and `usage`: what they say, what they refuse, and which key they need."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from neural_trader_server.home import Home

Here = Callable[..., Any]
ISSUE: tuple[str, ...] = (
    "mandates",
    "issue",
    "--agent",
    "agent-1",
    "--symbol",
    "AAPL",
    "--per-order",
    "100",
    "--cap",
    "250.50",
)


def answer(here: Here, *words: str) -> dict[str, Any]:
    done = here(*words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_issuing_listing_showing_and_revoking_tell_one_story(home: Home, here: Here) -> None:
    assert home.issuer_key.exists()
    issued = answer(here, *ISSUE, "--period", "month")
    assert (issued["state"], issued["per_order_cap_usd"], issued["cumulative_cap_usd"]) == (
        "in_force", "100", "250.5",
    )  # fmt: skip
    assert (issued["symbols"], issued["sides"], issued["spent_usd"]) == (["AAPL"], ["buy", "sell"], "0")
    assert answer(here, "mandates", "list", "--agent", "agent-1")["mandates"] == [issued]
    assert answer(here, "mandates", "list", "--agent", "nobody")["mandates"] == []
    mandate_id = issued["mandate_id"]
    assert answer(here, "mandates", "show", mandate_id) == {**issued, "orders": []}
    assert answer(here, "mandates", "revoke", mandate_id, "--reason", "drill")["state"] == "revoked"
    assert answer(here, "mandates", "list")["mandates"] == [{**issued, "state": "revoked"}]
    assert answer(here, "mandates", "release", "agent-1") == {"agent": "agent-1", "released": [mandate_id]}
    plain = here("mandates", "show", mandate_id)
    assert "revoked" in plain.stdout


def test_a_star_is_everything_and_the_words_say_so(home: Home, here: Here) -> None:
    words = [word if word != "AAPL" else "*" for word in ISSUE]
    done = here(*words)
    assert done.returncode == 0, done.stderr
    assert "lets agent-1 buy and sell everything on paper: up to 100 USD an order" in done.stdout
    assert "everything" in here("mandates", "list").stdout


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (("--per-order", "0"), "invalid_amount: --per-order 0"),
        (("--per-order", "1.005"), "invalid_amount: --per-order 1.005"),
        (("--per-order", "much"), "invalid_amount: --per-order"),
        (("--cap", "99"), "invalid_mandate: the mandate: the cap of one order exceeds"),
        (("--symbol", "aapl"), "invalid_mandate: symbols"),
        (("--side", "short"), "invalid_mandate: sides"),
        (("--period", "year"), "invalid_mandate: period"),
        (("--agent", "Agent One"), "invalid_mandate: agent"),
    ],
)
def test_a_mandate_that_cannot_be_is_refused_with_its_field(
    home: Home, here: Here, changed: tuple[str, str], why: str
) -> None:
    words = list(ISSUE)
    if changed[0] in words:
        words[words.index(changed[0]) + 1] = changed[1]
    else:
        words += changed
    done = here(*words)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(why)
    assert answer(here, "mandates", "list")["mandates"] == []


def test_without_the_issuers_key_nothing_is_signed_and_revoking_still_works(home: Home, here: Here) -> None:
    mandate_id = answer(here, *ISSUE)["mandate_id"]
    home.issuer_key.unlink()
    for words in (
        ISSUE,
        ("mandates", "release", "agent-1"),
        ("usage", "budget", "--agent", "a", "--usd", "1"),
    ):
        assert here(*words).returncode == 1
    assert here("mandates", "revoke", mandate_id, "--reason", "lost the key").returncode == 0
    assert answer(here, "mandates", "list")["mandates"][0]["state"] == "revoked"


def test_a_budget_is_set_shown_replaced_and_lifted(home: Home, here: Here) -> None:
    words = ("usage", "budget", "--agent", "agent-1")
    assert answer(here, *words, "--usd", "5")["budget_usd"] == "5"
    assert answer(here, *words, "--usd", "2.5", "--strategy", "ab" * 32)["strategy"] == "ab" * 6
    (whole, part) = answer(here, "usage")["budgets"]
    assert (whole["budget_usd"], whole["used_usd"], whole["left_usd"]) == ("5", "0", "5")
    assert (part["strategy"], part["budget_usd"]) == ("ab" * 6, "2.5")
    answer(here, *words, "--usd", "7")
    assert answer(here, "usage", "--agent", "agent-1")["budgets"][0]["budget_usd"] == "7"
    assert answer(here, *words, "--lift")["budget_usd"] is None
    assert [row["strategy"] for row in answer(here, "usage")["budgets"]] == ["ab" * 6]
    assert "Budgets" in here("usage").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--usd", "5", "--lift"),
        (),
        ("--usd", "-1"),
        ("--usd", "0.0000001"),
        ("--usd", "5", "--period", "week"),
        ("--usd", "5", "--strategy", "mine"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(home: Home, here: Here, words: tuple[str, ...]) -> None:
    done = here("usage", "budget", "--agent", "agent-1", *words)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].count("; ") >= 1
    assert answer(here, "usage")["budgets"] == []
