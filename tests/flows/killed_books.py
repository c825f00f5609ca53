"""What a killed desk is compared by: its books beside the exchange's, order by order and to the last unit."""

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
from tests.flows.killed_desk import STAND_IN, Home

from neural_trader_governance.audit.verify import verify_store
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.updates import Execution
from neural_trader_tools.orders.history import disagreements
from neural_trader_tools.orders.machine import WORKING


@dataclass(slots=True)
class Books:
    """What one comparison saw and found."""

    orders: int = 0
    used_up: int = 0
    fills: int = 0
    lost: set[str] = field(default_factory=set[str])
    doubled: set[str] = field(default_factory=set[str])
    others: list[str] = field(default_factory=list[str])


def compare(home: Home, http: httpx.Client, acknowledged: set[str]) -> Books:
    """Compares the desk with the exchange and with its own log."""
    books = Books()
    with contextlib.closing(_open(home.path / "desk.db")) as desk:
        rows = desk.execute("SELECT client_order_id, state, filled FROM orders").fetchall()
        ours = {name: (state, int(filled)) for name, state, filled in rows}
        booked = {
            execution: (name, abs(int(quantity)))
            for execution, name, quantity in desk.execute(
                "SELECT execution_id, client_order_id, quantity FROM fills"
            )
        }
        logged = Counter(
            name
            for (name,) in desk.execute(
                "SELECT client_order_id FROM audit_entries WHERE type = 'broker.fill'"
            )
        )
        cash = int(desk.execute("SELECT cash FROM accounts").fetchone()[0])
        held = dict(desk.execute("SELECT symbol, quantity FROM positions WHERE quantity <> 0").fetchall())
        books.others += [f"{name} is not what the log says" for name in disagreements(desk, limit=200)]
    report = verify_store(home.path / "desk.db", home.key.vkey)
    if not report.ok:
        books.others.append(f"the log does not verify: {report.problems[:1]}")
    orders, executions = _kept(home.path / "exchange" / "exchange" / "exchange.db")
    _compare_orders(books, ours, orders, acknowledged)
    names = {order.id: order.client_order_id for order in orders}
    theirs = {each.id: (names[each.order_id], each.quantity) for each in executions}
    if theirs != booked:
        books.others.append(f"fills differ: {list(set(theirs.items()) ^ set(booked.items()))[:3]}")
    if logged != Counter(name for name, _ in booked.values()):
        books.others.append("fills and their entries in the log differ")
    account = http.get("/v2/account").json()
    positions = {
        each["symbol"]: int(Decimal(each["qty"]) * 10**9) for each in http.get("/v2/positions").json()
    }
    if Decimal(account["cash"]) != Decimal(cash) / 10**6:
        books.others.append(f"cash is {Decimal(cash) / 10**6}, and {account['cash']} at the exchange")
    if positions != held:
        books.others.append(f"positions are {held}, and {positions} at the exchange")
    books.fills = len(theirs)
    return books


def _compare_orders(
    books: Books, ours: dict[str, tuple[str, int]], orders: list[VenueOrder], acknowledged: set[str]
) -> None:
    same: Counter[tuple[str, str, int | None]] = Counter()
    there: set[str] = set()
    for order in orders:
        name = order.client_order_id
        if order.symbol == STAND_IN:
            books.used_up += 1
            if ours.get(name, ("", 0))[0] not in {"canceled", "rejected"}:
                books.others.append(f"{name} is used up, and {ours.get(name)} at the desk")
            continue
        books.orders += 1
        there.add(name)
        same[order.symbol, order.side, order.limit] += 1
        if same[order.symbol, order.side, order.limit] > 1:
            books.doubled.add(name)
        if name not in ours:
            books.lost.add(name)
        elif (ours[name][0] in WORKING, ours[name][1]) != (order.is_open, order.filled):
            books.others.append(f"{name} is {ours[name]}, and {order.status}, {order.filled} there")
    books.lost |= acknowledged - ours.keys()
    books.lost |= {
        name for name, (state, filled) in ours.items() if name not in there and (state in WORKING or filled)
    }


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _kept(path: Path) -> tuple[list[VenueOrder], list[Execution]]:
    with contextlib.closing(_open(path)) as connection:
        orders = connection.execute("SELECT document FROM orders ORDER BY sequence").fetchall()[2:]
        executions = connection.execute("SELECT document FROM executions ORDER BY number").fetchall()
    return (
        [msgspec.json.decode(each, type=VenueOrder) for (each,) in orders],
        [msgspec.json.decode(each, type=Execution) for (each,) in executions],
    )
