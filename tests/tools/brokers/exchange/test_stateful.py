"""Whatever is asked and whatever the market does: no money appears, positions are the sum of the fills.

A model that only adds up executions is kept beside the exchange, and after each step they must agree.
"""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import ValidationError
from tests.tools.brokers.exchange.venues import DOLLAR, MINUTE, SECOND, Venue, sessions

from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.matching import FillRules
from neural_trader_tools.brokers.exchange.orders import OPEN
from neural_trader_tools.brokers.exchange.requests import ReplaceRequest
from neural_trader_tools.brokers.exchange.rules import RefusedError
from neural_trader_tools.brokers.exchange.venue import Fees

CASH = 50_000
prices = st.integers(9_000, 11_000).map(lambda cents: Decimal(cents) / 100)
symbols = st.sampled_from(["A", "B"])


def opt(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


class ExchangeMachine(RuleBasedStateMachine):
    @initialize(
        multiplier=st.sampled_from([1, 2]),
        latency=st.sampled_from([0, 2 * SECOND]),
        at_last=st.booleans(),
        participation=st.sampled_from([0, 1_000]),
        fee=st.sampled_from([0, 500]),
        rejects=st.sampled_from([0, 100_000]),
        in_sessions=st.booleans(),
    )
    def open(
        self,
        multiplier: int,
        latency: int,
        at_last: bool,
        participation: int,
        fee: int,
        rejects: int,
        in_sessions: bool,
    ) -> None:
        self.venue = Venue(
            cash=CASH,
            hours=sessions() if in_sessions else None,
            multiplier=multiplier,
            latency_ns=latency,
            reject_millionths=rejects,
            fees=Fees(commission_millionths=fee),
            fills=FillRules(participation_bp=participation, fills_at_last=at_last, slippage_bp=3),
        )

    def ask(self, action: Any, *given: Any, **terms: Any) -> None:
        before = (self.venue.account.cash, len(self.venue.exchange.registry.orders))
        try:
            action(*given, **terms)
        except (RefusedError, ValidationError):
            after = (self.venue.account.cash, len(self.venue.exchange.registry.orders))
            assert after == before, "a refusal changed something"

    @rule(
        side=st.sampled_from(["buy", "sell"]),
        qty=st.integers(1, 300),
        symbol=symbols,
        limit=opt(prices),
        stop=opt(prices),
        tif=st.sampled_from(["day", "gtc", "ioc", "fok", "opg", "cls"]),
    )
    def order(self, side: str, qty: int, symbol: str, limit: Any, stop: Any, tif: str) -> None:
        terms = {"limit_price": limit, "stop_price": stop}
        given = {key: str(value) for key, value in terms.items() if value is not None}
        self.ask(self.venue.order, side, qty, symbol, time_in_force=tif, **given)

    @rule(qty=st.integers(1, 200), gain=prices, loss=prices, limit=opt(prices), symbol=symbols)
    def bracket(self, qty: int, gain: Decimal, loss: Decimal, limit: Any, symbol: str) -> None:
        entry = {} if limit is None else {"limit_price": str(limit)}
        self.ask(
            self.venue.order,
            "buy",
            qty,
            symbol,
            time_in_force="gtc",
            order_class="bracket",
            take_profit={"limit_price": str(gain)},
            stop_loss={"stop_price": str(loss)},
            **entry,
        )

    @rule(trail=st.integers(1, 300), symbol=symbols)
    def trailing_stop(self, trail: int, symbol: str) -> None:
        held = int(self.venue.held(symbol))
        if held > 0:
            self.ask(self.venue.order, "sell", held, symbol, trail_price=str(Decimal(trail) / 100))

    @rule(dollars=st.integers(1, 5_000), symbol=symbols)
    def notional(self, dollars: int, symbol: str) -> None:
        self.ask(self.venue.order, "buy", None, symbol, notional=str(dollars))

    @rule(number=st.integers(0, 1_000))
    def cancel(self, number: int) -> None:
        orders = list(self.venue.exchange.registry.orders.values())
        if orders:
            self.ask(self.venue.cancel, orders[number % len(orders)])

    @rule(number=st.integers(0, 1_000), limit=prices, qty=opt(st.integers(1, 300)))
    def replace(self, number: int, limit: Decimal, qty: int | None) -> None:
        open_orders = self.venue.exchange.registry.open_orders("paper")
        if open_orders:
            order = open_orders[number % len(open_orders)]
            terms = {"limit_price": str(limit), "qty": qty}
            request = ReplaceRequest.model_validate(terms)
            self.ask(self.venue.exchange.replace, "paper", order.id, request)
            self.venue.drain()

    @rule(symbol=symbols, bid=prices, width=st.integers(0, 20), size=st.integers(1, 400))
    def quote(self, symbol: str, bid: Decimal, width: int, size: int) -> None:
        self.venue.quote(float(bid), float(bid) + width / 100, size=size, symbol=symbol, at=SECOND)

    @rule(symbol=symbols, price=prices, size=st.integers(1, 4_000))
    def print(self, symbol: str, price: Decimal, size: int) -> None:
        self.venue.print(float(price), size=size, symbol=symbol)

    @rule(symbol=symbols, corners=st.lists(prices, min_size=4, max_size=4), volume=st.integers(0, 20_000))
    def bar(self, symbol: str, corners: list[Decimal], volume: int) -> None:
        opening, close, *_ = map(float, corners)
        high, low = float(max(corners)), float(min(corners))
        self.venue.bar(opening, high, low, close, volume=volume, symbol=symbol)

    @rule(minutes=st.integers(1, 900))
    def wait(self, minutes: int) -> None:
        self.venue.wait(minutes * MINUTE)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "venue"):
            return
        account, registry = self.venue.account, self.venue.exchange.registry
        cash, fees = CASH * DOLLAR, 0
        held: dict[str, int] = defaultdict(int)
        filled: dict[str, int] = defaultdict(int)
        for each in self.venue.executions:
            buys = each.side == "buy"
            gross = amounts.money(each.price, each.quantity, "up" if buys else "down")
            cash += (-gross if buys else gross) - each.fee
            fees += each.fee
            held[each.symbol] += each.quantity if buys else -each.quantity
            filled[each.order_id] += each.quantity
        assert (account.cash, account.fees) == (cash, fees)
        assert all(account.held(symbol) == held[symbol] for symbol in ("A", "B"))
        assert len({each.id for each in self.venue.executions}) == len(self.venue.executions)
        for order in registry.orders.values():
            assert order.filled == filled[order.id] <= order.quantity
            assert order.status != "filled" or order.filled == order.quantity > 0
            whole = order.filled == order.quantity > 0
            assert (
                not whole or order.status == "filled" or order.note.startswith("the other order of its group")
            )
            assert order.reserved >= 0
            assert order.reserved == 0 or order.status in OPEN
        assert account.reserved == sum(order.reserved for order in registry.orders.values())

    @invariant()
    def prices_respect_limits(self) -> None:
        if not hasattr(self, "venue"):
            return
        for each in self.venue.executions:
            limit = self.venue.exchange.registry.orders[each.order_id].limit
            within = limit is None or (each.price <= limit if each.side == "buy" else each.price >= limit)
            assert within, (each, self.venue.exchange.registry.orders[each.order_id])

    @invariant()
    def a_cash_account_sells_only_what_it_has(self) -> None:
        if hasattr(self, "venue") and self.venue.account.multiplier == 1:
            assert all(self.venue.held(symbol) >= 0 for symbol in ("A", "B"))


TestExchange = ExchangeMachine.TestCase
TestExchange.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
