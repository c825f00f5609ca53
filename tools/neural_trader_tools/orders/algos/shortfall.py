"""Shortfall of parents: what executing a whole leg over time cost, against the price at its start."""

import sqlite3
from decimal import Decimal

from neural_trader_governance.terms.money import price_tick, round_to_tick
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock, newest_bar
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.algos.parents import Parent, children_of
from neural_trader_tools.orders.arrivals import find_arrival
from neural_trader_tools.orders.costs import Benchmarks, Cost, Execution, measure
from neural_trader_tools.orders.measuring import market_between


class LegCost(Term):
    """One leg of a parent with its cost: decided at the parent's start, arrived with its first child."""

    symbol: str
    side: str
    vwap_source: str
    cost: Cost


def measure_parent(
    connection: sqlite3.Connection, archive: Archive, replay: ReplayClock, parent: Parent
) -> list[LegCost]:
    """Measures the legs of a parent of which a child was sent; what is not filled is an opportunity missed.

    Raises:
        DataError: a leg's symbol has no price.
    """
    now, costs = replay.now(), list[LegCost]()
    children = children_of(connection, parent.parent_id)
    for index, leg in enumerate(parent.legs):
        own = [child for child in children if child.leg == index and child.state is not None]
        arrivals = [found for child in own if (found := find_arrival(connection, child.preview_id))]
        decided = newest_bar(archive, leg.symbol, as_of=parent.created_time)
        if not arrivals or decided is None:
            continue
        close = Decimal(repr(float(decided[2].item(0, "close"))))
        fills = [fill for child in own for fill in accounts.fills_of(connection, child.client_order_id)]
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        until = now if filled < leg.quantity else max(fill.event_time for fill in fills)
        around = market_between(archive, leg.symbol, parent.created_time, until)
        against = Benchmarks(
            decision=round_to_tick(close, price_tick(close), "nearest"),
            arrival=min(arrivals, key=lambda each: each.arrival_time).arrival_price,
            last=replay.quote(leg.symbol).last,
            vwap=around.vwap,
            volume=around.volume,
        )
        executions = [Execution(fill.quantity, fill.price, fill.fee) for fill in fills]
        cost = measure(leg.side, leg.quantity, executions, against)
        costs.append(LegCost(symbol=leg.symbol, side=leg.side, vwap_source=around.source, cost=cost))
    return costs
