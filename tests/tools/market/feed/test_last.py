"""The last-value cache: the newest by the vendor's time, whatever the order of arrival."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_tools.market.feed.last import LastValues
from neural_trader_tools.market.feed.ticks import BarTick, Quote, Tick, Trade


def tick_of(made: tuple[str, str, int, int]) -> Tick:
    symbol, kind, event_ns, recv_ns = made
    if kind == "trade":
        return Trade(symbol, 1.0 + recv_ns, 1.0, event_ns, recv_ns, "", "V")
    if kind == "quote":
        return Quote(symbol, 1.0, 1.0, 2.0, 1.0, event_ns, recv_ns, "V")
    return BarTick(symbol, kind, 1.0, 1.0, 1.0, 1.0, 1.0, event_ns, recv_ns)


ticks = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.sampled_from(["trade", "quote", "1m", "5m"]),
        st.integers(1, 5),
        st.integers(1, 10),
    ).map(tick_of),
    max_size=30,
)


@given(arrived=ticks)
def test_the_newest_event_counts_and_of_equals_the_last_received(arrived: list[Tick]) -> None:
    last = LastValues()
    for tick in arrived:
        last.update(tick)
    for symbol in ("A", "B"):
        for kind, held in ((Trade, last.trade(symbol)), (Quote, last.quote(symbol))):
            mine = [tick for tick in arrived if type(tick) is kind and tick.symbol == symbol]
            assert held == (max(reversed(mine), key=lambda tick: tick.ts_event_ns) if mine else None)
        for interval in ("1m", "5m"):
            bars = [
                t for t in arrived if isinstance(t, BarTick) and (t.symbol, t.interval) == (symbol, interval)
            ]
            newest = max(reversed(bars), key=lambda bar: bar.ts_event_ns) if bars else None
            assert last.bar(symbol, interval) == newest


def test_the_age_is_that_of_the_newest_trade_or_quote() -> None:
    last = LastValues()
    assert last.age_s("A", 10) is None
    trade = Trade("A", 1.0, 1.0, 1_000_000_000, 5, "", "V")
    assert last.update(trade)
    assert not last.update(msgspec.structs.replace(trade, ts_event_ns=999_999_999))
    last.update(Quote("A", 1.0, 1.0, 2.0, 1.0, 2_000_000_000, 5, "V"))
    assert last.age_s("A", 3_500_000_000) == 1.5
    assert last.symbols() == ["A"]
