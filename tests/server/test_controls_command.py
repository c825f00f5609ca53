"""What only a person sets right, at the command line: throttles, breaks, overrides."""

import json
from collections.abc import Callable
from typing import Any

from neural_trader_governance import throttles
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import load_settings

Here = Callable[..., Any]


def _json(ended: Any) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_an_override_is_signed_listed_and_revoked(here: Here) -> None:
    here("init")
    words = ("--agent", "agent-1", "--symbol", "AAPL", "--reason", "agreed", "--hours", "2")
    granted = _json(here("policy", "override", "max_notional", *words, "--json"))
    assert granted["rules"] == ["max_notional"]
    (row,) = _json(here("policy", "overrides", "--json"))["overrides"]
    assert (row["override_id"], row["state"]) == (granted["override_id"], "in force")
    revoked = _json(here("policy", "revoke-override", granted["override_id"], "--reason", "enough", "--json"))
    assert revoked["revoked"]
    assert _json(here("policy", "overrides", "--json"))["overrides"][0]["state"] == "revoked"


def test_what_the_policy_calls_final_is_not_lifted(here: Here) -> None:
    here("init")
    words = ("--agent", "agent-1", "--symbol", "AAPL", "--reason", "please")
    for rule, code in (("halted", "rule_not_overridable"), ("max_notional", "")):
        done = here("policy", "override", rule, *words)
        assert (done.returncode == 1) == bool(code)
        assert code in done.stderr
    done = here("policy", "override", "max_notional", "--agent", "A B", *words[2:])
    assert done.returncode == 1
    assert "invalid_override" in done.stderr


def test_an_agent_that_was_switched_off_is_shown_and_enabled_by_a_person(here: Here, home: Home) -> None:
    here("init")
    assert _json(here("orders", "breaks", "--json")) == {"breaks": [], "switched_off": []}
    services = Services(home, load_settings(home), WallClock())
    with services.store.unit() as unit:
        throttles.trip(unit, caller=Caller("owner", "agent-1"), reason="21 orders")
    services.close()
    (row,) = _json(here("orders", "breaks", "--json"))["switched_off"]
    assert (row["agent"], row["reason"]) == ("agent-1", "21 orders")
    assert _json(here("orders", "enable", "agent-1", "--reason", "meant", "--json"))["enabled"]
    assert _json(here("orders", "breaks", "--json"))["switched_off"] == []
    again = here("orders", "enable", "agent-1", "--reason", "meant")
    assert again.returncode == 1
    assert "not_throttled" in again.stderr
    unknown = here("orders", "resolve", "br_0", "--reason", "looked")
    assert unknown.returncode == 1
    assert "unknown_break" in unknown.stderr


def test_real_money_takes_a_setting_and_a_signature_and_the_policy_that_was_signed(here: Here) -> None:
    here("init")
    off = _json(here("live", "status", "--json"))
    assert (off["mode"], off["live_trading"], off["permitted"], off["real_money"]) == (
        *("paper", False, False),
        False,
    )
    made = _json(here("live", "enable", "--reason", "reviewed", "--days", "2", "--json"))
    assert (made["permitted"], made["real_money"]) == (True, False)
    live = {
        "NEURAL_TRADER_BROKER": "alpaca",
        "NEURAL_TRADER_BROKER_URL": "https://api.alpaca.markets",
        "NEURAL_TRADER_BROKER_KEY_ID": "live-key-of-a-test",
        "NEURAL_TRADER_BROKER_SECRET_KEY": "live-secret-of-a-test",
    }
    refused = here("orders", "breaks", **live)
    assert refused.returncode == 0, "what needs no venue asks for none"
    refused = here("orders", "reconcile", **live)
    assert (refused.returncode, "live_not_switched_on" in refused.stderr) == (1, True)
    on = live | {"NEURAL_TRADER_LIVE_TRADING": "true"}
    shown = _json(here("live", "status", "--json", **on))
    assert (shown["mode"], shown["real_money"]) == ("live", True)
    assert shown["permits"][0]["state"] == "in force"
    ended = _json(here("live", "disable", "--reason", "done", "--json", **on))
    assert (ended["permitted"], ended["real_money"]) == (False, False)
