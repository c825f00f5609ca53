"""The data-quality rules: every reason by example, and what holds of any stream."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.market.feed.hours import session_hours
from neural_trader_tools.market.feed.rules import Rules
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Gap, Quote, Tick, Trade, parse_ns
from neural_trader_tools.market.feed.verdicts import RuleLimits, Verdict

START_NS = parse_ns("2026-11-20T15:30:00Z")
MakeTrade = Callable[..., Trade]
MakeQuote = Callable[..., Quote]


def quarantined(reason: str) -> Verdict:
    return Verdict("quarantine", (reason,))


def test_an_ordinary_stream_passes(trade: MakeTrade, quote: MakeQuote) -> None:
    rules = Rules()
    ticks: list[Tick] = [trade(100 + i / 100, i) for i in range(200)]
    ticks += [quote(99 + i / 100, 101 + i / 100, i) for i in range(200)]
    assert {rules.check(tick).action for tick in ticks} == {"pass"}
    assert rules.checked == 400
    assert not rules.reasons


def test_an_exact_repeat_is_dropped_and_a_contradiction_is_quarantined(
    trade: MakeTrade, quote: MakeQuote
) -> None:
    rules = Rules()
    first = trade(100, trade_id="7")
    rules.check(first)
    again = msgspec.structs.replace(first, ts_recv_ns=first.ts_recv_ns + SECOND_NS)
    assert rules.check(again) == Verdict("drop", ("duplicate",))
    assert rules.check(msgspec.structs.replace(first, price=100.5)) == quarantined("contradicts")
    assert rules.check(msgspec.structs.replace(first, venue="Q")).action == "pass"
    rules.check(quote())
    assert rules.check(quote()) == Verdict("drop", ("duplicate",))


def test_trades_without_an_id_are_known_by_their_content(trade: MakeTrade) -> None:
    rules = Rules()
    nameless = msgspec.structs.replace(trade(100), trade_id="")
    assert rules.check(nameless).action == "pass"
    assert rules.check(nameless).action == "drop"
    assert rules.check(msgspec.structs.replace(nameless, size=99.0)).action == "pass"


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_prices_that_are_none_are_quarantined(price: float, trade: MakeTrade, quote: MakeQuote) -> None:
    rules = Rules()
    assert rules.check(trade(price)) == quarantined("bad_price")
    assert rules.check(quote(price, 101.0)) == quarantined("bad_price")
    assert rules.check(quote(99.0, price)).action == "quarantine"
    bar = BarTick("AAPL", "1m", 100.0, 101.0, price, 100.0, 1.0, START_NS, START_NS + 60 * SECOND_NS)
    assert rules.check(bar) == quarantined("bad_price")


@pytest.mark.parametrize("size", [-1.0, math.nan, math.inf])
def test_sizes_that_are_none_are_quarantined(size: float, trade: MakeTrade, quote: MakeQuote) -> None:
    rules = Rules()
    assert rules.check(trade(100, size=size)) == quarantined("bad_size")
    assert rules.check(quote(ask_size=size)) == quarantined("bad_size")


@pytest.mark.parametrize("symbol", ["", "aapl", "ÄPL", "A" * 17, "AAPL\n", "AAPL\u200b", "../../etc"])
def test_symbols_that_are_none_are_quarantined_and_not_remembered(symbol: str, trade: MakeTrade) -> None:
    rules = Rules()
    assert rules.check(trade(100, symbol=symbol)) == quarantined("bad_symbol")
    assert rules.silent(START_NS + 3600 * SECOND_NS) == []


def test_a_flood_of_symbols_is_bounded(trade: MakeTrade) -> None:
    rules = Rules(RuleLimits(symbols_max=2))
    assert [rules.check(trade(100, symbol=symbol)).reasons for symbol in ("A", "B", "C", "A")] == [
        (),
        (),
        ("too_many_symbols",),
        (),
    ]


def test_crossed_quotes_are_quarantined_and_locked_ones_pass(quote: MakeQuote) -> None:
    rules = Rules()
    assert rules.check(quote(101.0, 100.0)) == quarantined("crossed")
    assert rules.check(quote(100.0, 100.0)).action == "pass"


def test_a_quote_with_one_side_is_flagged_and_moves_no_middle(quote: MakeQuote) -> None:
    rules = Rules()
    rules.check(quote(99.0, 101.0))
    assert rules.check(quote(99.0, 0.0, 1, ask_size=0.0)) == Verdict("flag", ("one_sided",))
    assert rules.check(quote(0.0, 0.0, 1, bid_size=0.0, ask_size=0.0)) == quarantined("bad_price")
    assert rules.check(quote(99.0, 101.0, 2)).action == "pass"


@pytest.mark.parametrize(
    ("seconds", "change", "action"),
    [
        (0.001, 0.099, "pass"),
        (0.001, 0.101, "quarantine"),
        (1.0, -0.099, "pass"),
        (1.0, -0.101, "quarantine"),
        (3.0, 0.29, "pass"),
        (3.0, 0.31, "quarantine"),
        (5.0, 0.49, "pass"),
        (3600.0, 0.51, "quarantine"),
    ],
)
def test_a_jump_is_more_than_ten_percent_a_second(
    seconds: float, change: float, action: str, trade: MakeTrade
) -> None:
    rules = Rules(RuleLimits(gap_ns=2**62))
    rules.check(trade(100))
    assert rules.check(trade(100 * (1 + change), seconds)).action == action


def test_one_bad_print_is_kept_out_and_a_confirmed_level_is_accepted(trade: MakeTrade) -> None:
    rules = Rules()
    actions = [
        rules.check(trade(price, i / 10)).reasons for i, price in enumerate([100, 1, 100, 50, 51, 50, 50.5])
    ]
    assert actions == [(), ("jump",), (), ("jump",), ("jump",), ("jump_confirmed",), ()]


def test_a_repeated_bad_print_cannot_confirm_itself(trade: MakeTrade) -> None:
    rules = Rules()
    rules.check(trade(100))
    bad = trade(1, 0.1)
    assert [rules.check(bad).action for _ in range(5)] == ["quarantine", "drop", "drop", "drop", "drop"]


def test_a_gap_a_late_and_a_stale_tick_are_flagged(trade: MakeTrade) -> None:
    rules = Rules()
    rules.check(trade(100, 0))
    assert rules.check(trade(100, 5)).action == "pass"
    assert rules.check(trade(100, 10.001)) == Verdict("flag", ("gap",))
    assert rules.check(trade(100, 9)) == Verdict("flag", ("out_of_order",))
    old = msgspec.structs.replace(trade(100, 11), ts_recv_ns=trade(100, 17).ts_recv_ns)
    assert rules.check(old) == Verdict("flag", ("stale",))
    assert rules.reasons == {"gap": 1, "out_of_order": 1, "stale": 1}
    assert rules.actions == {"flag": 3}


def test_a_late_tick_is_no_newer_price(trade: MakeTrade) -> None:
    rules = Rules()
    for price, at_s in ((100, 0), (100, 5), (108, 4)):
        rules.check(trade(price, at_s))
    assert rules.check(trade(91, 9.5)).action == "pass"  # from 108 at 4 s it would follow a gap


def test_a_time_from_the_future_or_none_is_quarantined(trade: MakeTrade) -> None:
    rules = Rules()
    now = trade(100)
    assert rules.check(
        msgspec.structs.replace(now, ts_event_ns=now.ts_recv_ns + 6 * SECOND_NS)
    ) == quarantined("future")
    assert rules.check(msgspec.structs.replace(trade(100), ts_event_ns=0)) == quarantined("bad_time")


def test_a_size_beyond_three_sigma_is_flagged_once_sizes_are_known(trade: MakeTrade) -> None:
    rules = Rules()
    assert rules.check(trade(100, size=1e6)).action == "pass"
    rules = Rules()
    for i in range(100):
        assert rules.check(trade(100, i / 10, size=100.0 + i % 10)).action == "pass"
    assert rules.check(trade(100, 10, size=112.0)).action == "pass"
    assert rules.check(trade(100, 10, size=120.0)) == Verdict("flag", ("volume",))


def test_the_deviation_agrees_with_numpy_as_long_as_the_window_is_not_full(trade: MakeTrade) -> None:
    rules = Rules()
    sizes = [float(1 + (i * 7919) % 101) for i in range(200)]
    for i, size in enumerate(sizes):
        rules.check(trade(100, i / 10, size=size))
    mean = sum(sizes) / len(sizes)
    edge = mean + 3 * math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
    just_above = Rules()
    for i, size in enumerate(sizes):
        just_above.check(trade(100, i / 10, size=size))
    assert rules.check(trade(100, 20, size=edge * 0.9999)).action == "pass"
    assert just_above.check(trade(100, 20, size=edge * 1.0001)).reasons == ("volume",)


def test_a_bar_received_again_is_a_repeat_or_a_revision() -> None:
    rules = Rules()
    bar = BarTick("AAPL", "1m", 100.0, 101.0, 99.0, 100.5, 10.0, START_NS, START_NS + 60 * SECOND_NS)
    assert rules.check(bar).action == "pass"
    assert rules.check(bar).action == "drop"
    assert rules.check(msgspec.structs.replace(bar, close=100.7)).action == "pass"
    assert rules.check(msgspec.structs.replace(bar, close=102.0)) == quarantined("bad_bar")


def test_a_silent_symbol_is_reported_with_its_span(trade: MakeTrade) -> None:
    rules = Rules()
    last = trade(100)
    rules.check(last)
    assert rules.silent(last.ts_recv_ns + 5 * SECOND_NS) == []
    later = last.ts_recv_ns + 5 * SECOND_NS + 1
    assert rules.silent(later) == [Gap("AAPL", last.ts_recv_ns, later, "silent")]


def test_what_is_remembered_for_repeats_is_bounded(trade: MakeTrade) -> None:
    rules = Rules(RuleLimits(remembered_max=10))
    trades = [trade(100) for _ in range(100)]
    for one in trades:
        rules.check(one)
    assert [rules.check(one).action for one in trades[-5:]] == ["drop"] * 5
    assert rules.check(trades[0]).action != "drop"


wild = st.one_of(st.floats(), st.floats(1, 200), st.just(100.0))


@settings(max_examples=150, deadline=None)
@given(
    made=st.lists(
        st.tuples(
            st.sampled_from(["AAPL", "MSFT", "x", ""]),
            wild,
            wild,
            st.integers(-(2**62), 2**62) | st.integers(START_NS, START_NS + 10**10),
            st.sampled_from(["1", "2", "3", ""]),
        ),
        max_size=40,
    )
)
def test_any_stream_gets_verdicts_whose_counts_add_up_and_accepted_prices_are_prices(
    made: list[tuple[str, float, float, int, str]],
) -> None:
    rules = Rules()
    passed = 0
    for symbol, price, size, event_ns, trade_id in made:
        verdict = rules.check(Trade(symbol, price, size, event_ns, START_NS + 10**10, trade_id, "V"))
        passed += verdict.action == "pass"
        assert (verdict.action == "pass") == (not verdict.reasons)
        if verdict.action in {"pass", "flag"}:
            assert symbol in {"AAPL", "MSFT"}
            assert 0 < price < math.inf
            assert 0 <= size < math.inf
    assert passed + rules.actions.total() == rules.checked == len(made)


def test_only_silence_within_a_session_is_a_gap(trade: MakeTrade) -> None:
    hours = session_hours("XNYS", datetime(2026, 11, 20, tzinfo=UTC), 4)
    rules = Rules(hours=hours)

    def judged(at: str) -> tuple[str, ...]:
        event_ns = parse_ns(at)
        return rules.check(Trade("AAPL", 100.0, 1.0, event_ns, event_ns, at, "V")).reasons

    assert judged("2026-11-20T13:00:00Z") == ()
    assert judged("2026-11-20T14:00:00Z") == ()  # before the open nobody has to speak
    assert judged("2026-11-20T14:30:00Z") == ()
    assert judged("2026-11-20T14:30:06Z") == ("gap",)
    assert judged("2026-11-20T22:00:00Z") == ()
    assert judged("2026-11-23T14:30:01Z") == ()  # over the weekend
    assert judged("2026-11-23T14:31:00Z") == ("gap",)
    assert rules.silent(parse_ns("2026-11-23T14:31:05Z")) == []
    assert [gap.symbol for gap in rules.silent(parse_ns("2026-11-23T14:31:06Z"))] == ["AAPL"]
    assert rules.silent(parse_ns("2026-11-23T22:00:00Z")) == []
    [gap] = rules.silent(parse_ns("2026-11-23T20:59:59Z"))
    assert gap.from_ns == parse_ns("2026-11-23T14:31:00Z")
