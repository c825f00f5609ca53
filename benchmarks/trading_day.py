"""A day of 100 strategies on a simulated clock, 200 orders a second, and every total checked at its end.

    python benchmarks/trading_day.py --beats 377

Every 62 seconds of a session each strategy submits two orders within one second, on the clock that desk and
exchange share: 200 orders in that second, 75,400 in a day. (More a minute would be refused: the policy that
ships allows the desk 300 messages a minute, cancels included.) Ctrl-C ends the day early, and what was
traded is checked. Everything is what a server has:
shipped policy, approvals, reservations, the signed log on the disk, the Alpaca adapter, the exchange behind
its API with its own file; only sockets are missing, the adapter calls the API in this process. Then:

- no money was created: the desk's accounts together hold the cash that the exchange says, and that is what
  they began with, less what fills cost, to the micro;
- positions are the sums of the fills, at the desk and at the exchange, and each order is there once;
- every fill has its one entry in the log, every order its intent, nothing is reserved for a finished order;
- the log verifies, and the newest orders are what it says.
"""

import argparse
import contextlib
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import httpx
from pydantic import SecretStr
from results import Case, write_results
from trading_floor import NOW, Floor, open_floor

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.api.keys import ApiKey, KeyRing
from neural_trader_tools.brokers.exchange.api.routes import TradingApi
from neural_trader_tools.brokers.exchange.api.service import ExchangeService
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.hours import round_the_clock
from neural_trader_tools.brokers.exchange.keeping import Keeper
from neural_trader_tools.brokers.exchange.market import to_ns
from neural_trader_tools.brokers.exchange.prices import QuoteSeen
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.history import disagreements
from neural_trader_tools.orders.machine import WORKING

STRATEGIES = 100
PER_S = 200
BEAT = timedelta(seconds=62)
A_BOOK = 10
"""Strategies that share an account of the desk; the exchange has one account for all."""
CASH = 100_000
CLOSES = {"MSFT": 28.55, "IBM": 188.54}
KEY, SECRET = "PKBENCH", "secret-of-a-benchmark"
PERSON = Caller("bench", "")


class Day:
    """The session."""

    def __init__(self, floor: Floor, place: Path, seed: int) -> None:
        self.floor = floor
        self.chance = random.Random(seed)
        cash = CASH * 10**6 * STRATEGIES // A_BOOK
        self.account = Account("paper", KEY, cash, start_cash=cash)
        hours = round_the_clock(date(2012, 6, 1), date(2012, 6, 30))
        exchange = Exchange(hours, [Asset(each) for each in CLOSES], [self.account], start_ns=to_ns(NOW))
        self.service = ExchangeService(exchange, Keeper(place / "exchange.db", 0))
        app = TradingApi(self.service, KeyRing([ApiKey.of(KEY, SECRET, "paper")]), 0).app()
        settings = AlpacaTradingSettings(
            url="http://127.0.0.1:1",
            key_id=SecretStr(KEY),
            secret_key=SecretStr(SECRET),
            stand_in_symbol="IBM",
            request_timeout_s=120,
        )
        self.broker = AlpacaBroker(settings, floor.clock)
        wire = self.broker._wire  # pyright: ignore[reportPrivateUsage]
        wire._client = httpx.AsyncClient(  # pyright: ignore[reportPrivateUsage]
            transport=httpx.ASGITransport(app),
            base_url=settings.url,
            headers=wire._client.headers,  # pyright: ignore[reportPrivateUsage]
        )
        self.desk: Desk = floor.desk(self.broker)
        self.prices = dict(CLOSES)
        self.working: dict[int, list[str]] = {}
        self.held: Counter[tuple[int, str]] = Counter()
        self.counts: Counter[str] = Counter()
        self.is_over = False
        self.agents = [floor.enroll(f"strategy-{number:03}") for number in range(STRATEGIES)]
        for book in range(STRATEGIES // A_BOOK):
            names = [each.agent for each in self.agents[book * A_BOOK : (book + 1) * A_BOOK]]
            floor.open_account(f"book-{book}", CASH, names)

    async def run(self, beats: int) -> float:
        """Trades, until the day ends or Ctrl-C ends it early; returns the seconds that it took."""
        start = time.perf_counter()
        told = signal.signal(signal.SIGINT, lambda *_: setattr(self, "is_over", True))
        async with self.service.running():
            for beat in range(beats):
                if self.is_over:
                    break
                await self._show(NOW + beat * BEAT)
                await self.desk.reconcile(PERSON)
                for turn in range(PER_S // STRATEGIES):
                    async with anyio.create_task_group() as tasks:
                        for number in range(STRATEGIES):
                            tasks.start_soon(self._trade, number, turn)
                if beat % 10 == 9:
                    passed_s = time.perf_counter() - start
                    print(
                        f"{self.counts['orders']:,} orders in {passed_s:,.0f} s", file=sys.stderr, flush=True
                    )
            took_s = time.perf_counter() - start
            signal.signal(signal.SIGINT, told)
            self.floor.clock.advance(BEAT)
            await self.desk.reconcile(PERSON)
        await self.broker.aclose()
        return took_s

    async def _show(self, moment: datetime) -> None:
        """Lets a beat begin: the clock moves, and quotes of a small size are shown."""
        clock = self.floor.clock
        clock.advance(moment - clock.now())
        for symbol, close in CLOSES.items():
            moved = self.prices[symbol] * (1 + self.chance.uniform(-0.001, 0.001))
            self.prices[symbol] = min(max(moved, close * 0.98), close * 1.02)
        now_ns = to_ns(clock.now())
        for symbol, price in self.prices.items():
            bid, ask = round(price - 0.01, 2), round(price + 0.01, 2)
            quote = QuoteSeen.of(
                symbol, now_ns, bid, self.chance.randint(20, 400), ask, self.chance.randint(20, 400)
            )
            await self.service.call(lambda exchange, quote=quote: exchange.observe(quote))

    async def _trade(self, number: int, turn: int) -> None:
        caller = self.agents[number]
        for name in self.working.pop(number, []) if turn == 0 else []:
            await self.desk.cancel(name, caller)
            self.counts["canceled"] += 1
        self.floor.clock.advance(timedelta(seconds=1) / PER_S)
        now_ns = to_ns(self.floor.clock.now())
        await self.service.call(lambda exchange: exchange.advance(now_ns))
        intent = self._intent(number, tuple(CLOSES)[turn % 2], caller.agent)
        self.counts["orders"] += 1
        preview = await self.desk.preview(intent, caller)
        if preview.verdict.decision != "allow":
            self.counts[f"denied: {preview.verdict.reasons[0].rule}"] += 1
            return
        try:
            order = (await self.desk.submit(preview.preview_id, caller)).order
        except RiskError as error:
            self.counts[f"refused: {error.code}"] += 1
            return
        self.counts[str(order.state)] += 1
        if order.state in WORKING:
            self.working.setdefault(number, []).append(order.client_order_id)
        filled = int(order.filled_quantity)
        self.held[number, intent.symbol] += filled if intent.side == "buy" else -filled

    def _intent(self, number: int, symbol: str, agent: str) -> OrderIntent:
        """Returns an order: most meet the quote at once or not at all, some rest 5 % away."""
        held = self.held[number, symbol]
        sells = held >= 3 and self.chance.random() < 0.6
        rests = self.chance.random() < 0.15
        away = (0.05 if rests else -0.01) * (1 if sells else -1)
        return OrderIntent.model_validate(
            {
                "symbol": symbol,
                "side": "sell" if sells else "buy",
                "quantity": self.chance.randint(1, 3),
                "type": "limit",
                "limit_price": f"{self.prices[symbol] * (1 + away):.2f}",
                "time_in_force": "day" if rests else "ioc",
                "account": f"book-{number // A_BOOK}",
                "agent": agent,
                "strategy_id": agent,
                "reason": "a day of many strategies",
            }
        )

    def check(self) -> dict[str, int]:
        """Checks every total; returns what there is of each.

        Raises:
            AssertionError: something does not add up.
        """
        registry, keeper = self.service.exchange.registry, self.service.keeper
        executions = keeper.executions("paper", limit=10**9, newest_first=False)
        with contextlib.closing(sqlite3.connect(self.floor.place / "desk.db")) as desk:

            def rows(query: str) -> list[tuple[object, ...]]:
                return desk.execute(query).fetchall()

            fills = {
                str(name): int(str(quantity))
                for name, quantity in rows("SELECT execution_id, quantity FROM fills")
            }
            assert {each.id: each.quantity for each in executions} == {n: abs(q) for n, q in fills.items()}
            cash, opened, moved = (
                int(str(rows(query)[0][0]))
                for query in (
                    "SELECT SUM(cash) FROM accounts",
                    "SELECT SUM(opening_cash) FROM accounts",
                    "SELECT SUM(cash) FROM fills",
                )
            )
            spent = sum(
                Decimal(each.price) * each.quantity * (1 if each.side == "buy" else -1) for each in executions
            )
            assert cash == opened + moved == self.account.cash
            assert opened - cash == spent / 10**9 * _MICROS_A_PRICE
            held = Counter(
                {
                    str(s): int(str(q))
                    for s, q in rows("SELECT symbol, SUM(quantity) FROM positions GROUP BY 1")
                }
            )
            by_account = rows(
                "SELECT account, symbol, quantity FROM positions WHERE quantity <> 0 ORDER BY 1, 2"
            )
            signed = "SUM(ABS(quantity) * IIF(json_extract(fill, '$.side') = 'buy', 1, -1))"
            assert by_account == rows(
                f"SELECT account, symbol, {signed} AS q FROM fills GROUP BY 1, 2 HAVING q <> 0 ORDER BY 1, 2"
            )
            there = {name: each.quantity for name, each in self.account.positions.items() if each.quantity}
            assert {name: quantity for name, quantity in held.items() if quantity} == there
            entries = "SELECT json_extract(CAST(entry AS TEXT), '$.payload.execution_id') FROM audit_entries"
            logged = Counter(str(name) for (name,) in rows(f"{entries} WHERE type = 'broker.fill'"))
            assert logged == Counter(dict.fromkeys(fills, 1)), "a fill without its entry"
            names = {str(name) for (name,) in rows("SELECT client_order_id FROM orders")}
            assert Counter(each.client_order_id for each in registry.orders.values()) == Counter(names)
            intents = rows("SELECT client_order_id FROM audit_entries WHERE type = 'order.intent'")
            assert Counter(str(name) for (name,) in intents) == Counter(names)
            marks = ", ".join(f"'{state}'" for state in WORKING)
            assert rows(f"SELECT COUNT(*) FROM orders WHERE reserved <> 0 AND state NOT IN ({marks})") == [
                (0,)
            ]
            assert rows("SELECT COUNT(*) FROM orders WHERE reserved < 0") == [(0,)]
            assert disagreements(desk) == []
            count = int(str(rows("SELECT COUNT(*) FROM audit_entries")[0][0]))
        report = verify_store(self.floor.place / "desk.db", self.floor.key.vkey)
        assert report.ok, report.problems[:3]
        return {"orders": len(names), "fills": len(fills), "log entries": count}


_MICROS_A_PRICE = 10**6 // 10**4
"""The exchange counts prices in hundredths of a cent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--beats", type=int, default=377, help="of 200 orders; 377 are a day")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(
        dir=Path(__file__).parent
    ) as folder:  # a disk, where a sync costs its price
        place = Path(folder)
        floor = open_floor(place)
        day = Day(floor, place, given.seed)
        start_cpu = time.process_time()
        took_s = anyio.run(day.run, given.beats)
        cpu_s = time.process_time() - start_cpu
        print(
            {"counts": dict(day.counts), **day.check(), "seconds": round(took_s, 1), "cpu_s": round(cpu_s, 1)}
        )
        floor.store.close()
    orders = day.counts["orders"]
    name = f"{orders:,} orders of {STRATEGIES} strategies, totals checked ({orders / took_s:.0f}/s), each"
    pace = f"{PER_S} orders/s"
    write_results(
        "trading_day",
        [
            Case(name, took_s * 1e3 / orders, 1e3 / PER_S, pace, "ms"),
            Case("CPU of desk, adapter and exchange, each", cpu_s * 1e3 / orders, 1e3 / PER_S, pace, "ms"),
        ],
    )


if __name__ == "__main__":
    main()
