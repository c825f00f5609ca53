"""Words: what an agent writes can be read by a person, and does nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.words import is_plain, one_line, visible

UNSEEN = ("\x1b[2J", "\x9b2J", "\x07", "\u202e000,1", "\u2066x", "\u200bx", "a\nb", "a\rb", "\x7f", "\u2028")


@pytest.mark.parametrize("text", UNSEEN)
def test_what_a_terminal_obeys_is_written_out(text: str) -> None:
    assert not is_plain(text)
    assert is_plain(visible(text))
    assert "\\" in visible(text)


def test_words_of_any_language_stay_as_they_are() -> None:
    for text in ("Kauf für 1 €, naïve", "買い 100株", "قصد", "👩\u200d💻 rebalances", "~!@#"):
        assert is_plain(text)
        assert visible(text) == text


@given(st.text())
def test_whatever_is_written_out_is_plain_and_stays_so(text: str) -> None:
    assert is_plain(visible(text))
    assert visible(visible(text)) == visible(text)
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("text", UNSEEN)
def test_an_order_whose_reason_could_repaint_a_terminal_is_no_order(text: str) -> None:
    order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "agent": "agent-1"}
    OrderIntent.model_validate({**order, "reason": "mean reversion, § 3"})
    with pytest.raises(ValidationError, match="cannot be seen"):
        OrderIntent.model_validate({**order, "reason": f"x{text}y"})


@pytest.mark.parametrize("name", ["", "two words", "s\u0430me", "x\n", "x" * 81])
def test_an_order_names_only_a_strategy_that_a_halt_can_name(name: str) -> None:
    order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "agent": "agent-1", "reason": "x"}
    with pytest.raises(ValidationError, match="strategy_id"):
        OrderIntent.model_validate({**order, "strategy_id": name})
