"""What trading cost: implementation shortfall and slippage of each order, in Decimal.

Implementation shortfall (Perold, "The Implementation Shortfall: Paper versus Reality", Journal of Portfolio
Management 14(3), 1988) is what a paper portfolio that trades everything at the decision price earns more
than the real one. It splits exactly into

    delay        filled x (arrival - decision)
    trading      sum of fill quantity x (fill price - arrival)
    opportunity  unfilled x (last - decision)
    fees

each times +1 for a buy and -1 for a sale; positive is a cost. Slippage is the average price against a
benchmark, in basis points: the arrival price, and the market's volume-weighted price while the order worked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.money import MICRO, Currency, DecimalText
from neural_trader_governance.terms.orders import Side
from neural_trader_governance.terms.term import Term

BPS = Decimal(10_000)
_BPS_STEP = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill, as far as its cost goes."""

    quantity: Decimal
    price: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The prices that an order is measured against.

    Attributes:
        decision: When it was decided on.
        arrival: When it was sent.
        last: The newest, at which what is not filled is valued.
        vwap: The market's volume-weighted price while it worked; None where nothing is known of it.
        volume: What the market traded meanwhile; None likewise.
    """

    decision: Decimal
    arrival: Decimal
    last: Decimal
    vwap: Decimal | None = None
    volume: Decimal | None = None


class Cost(Term):
    """What one order cost; amounts in its currency, None where there is nothing to measure."""

    quantity: DecimalText
    filled: DecimalText
    average_price: DecimalText | None
    decision_price: DecimalText
    arrival_price: DecimalText
    vwap: DecimalText | None
    delay: DecimalText
    trading: DecimalText
    opportunity: DecimalText
    fees: DecimalText
    shortfall: DecimalText
    shortfall_bps: DecimalText
    arrival_slippage_bps: DecimalText | None
    vwap_slippage_bps: DecimalText | None
    participation: DecimalText | None


def measure(side: Side, quantity: Decimal, fills: Sequence[Execution], against: Benchmarks) -> Cost:
    """Returns the cost of an order.

    Args:
        side: Of the order.
        quantity: What was ordered, above zero.
        fills: What was filled so far.
        against: Its benchmarks, each above zero.
    """
    sign = 1 if side == "buy" else -1
    filled = sum((fill.quantity for fill in fills), Decimal(0))
    paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
    fees = sum((fill.fee for fill in fills), Decimal(0))
    delay = sign * filled * (against.arrival - against.decision)
    trading = sign * (paid - filled * against.arrival)
    opportunity = sign * (quantity - filled) * (against.last - against.decision)
    shortfall = delay + trading + opportunity + fees
    average = paid / filled if filled else None
    return Cost(
        quantity=quantity,
        filled=filled,
        average_price=average.quantize(MICRO, ROUND_HALF_EVEN) if average is not None else None,
        decision_price=against.decision,
        arrival_price=against.arrival,
        vwap=against.vwap.quantize(MICRO, ROUND_HALF_EVEN) if against.vwap is not None else None,
        delay=delay,
        trading=trading,
        opportunity=opportunity,
        fees=fees,
        shortfall=shortfall,
        shortfall_bps=_bps(shortfall, quantity * against.decision),
        arrival_slippage_bps=_slippage(sign, average, against.arrival),
        vwap_slippage_bps=_slippage(sign, average, against.vwap),
        participation=_share(filled, against.volume),
    )


class OrderCost(Term):
    """One order with its cost."""

    client_order_id: str
    symbol: str
    side: Side
    type: str
    state: str
    strategy: str
    currency: Currency
    decision_time: UtcTime
    arrival_time: UtcTime
    valued_at: UtcTime
    vwap_source: str
    cost: Cost


class CostSummary(Term):
    """Orders of one group together; basis points are weighted by what was ordered at decision prices."""

    group: str
    orders: int
    value: DecimalText
    delay: DecimalText
    trading: DecimalText
    opportunity: DecimalText
    fees: DecimalText
    shortfall: DecimalText
    shortfall_bps: DecimalText


def summarise(costs: Iterable[OrderCost], by: str) -> list[CostSummary]:
    """Returns the costs added up by `strategy`, `symbol`, `side`, `type` or `all`, dearest first."""
    groups: dict[str, list[Cost]] = {}
    for each in costs:
        groups.setdefault("all" if by == "all" else str(getattr(each, by)), []).append(each.cost)
    lines = [_summary(name, members) for name, members in groups.items()]
    return sorted(lines, key=lambda line: (-line.shortfall, line.group))


def _summary(name: str, costs: Sequence[Cost]) -> CostSummary:
    value = sum((cost.quantity * cost.decision_price for cost in costs), Decimal(0))
    shortfall = sum((cost.shortfall for cost in costs), Decimal(0))
    return CostSummary(
        group=name,
        orders=len(costs),
        value=value,
        delay=sum((cost.delay for cost in costs), Decimal(0)),
        trading=sum((cost.trading for cost in costs), Decimal(0)),
        opportunity=sum((cost.opportunity for cost in costs), Decimal(0)),
        fees=sum((cost.fees for cost in costs), Decimal(0)),
        shortfall=shortfall,
        shortfall_bps=_bps(shortfall, value),
    )


def _slippage(sign: int, average: Decimal | None, benchmark: Decimal | None) -> Decimal | None:
    if average is None or benchmark is None:
        return None
    return _bps(sign * (average - benchmark), benchmark)


def _bps(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole * BPS).quantize(_BPS_STEP, ROUND_HALF_EVEN)


def _share(filled: Decimal, volume: Decimal | None) -> Decimal | None:
    return (filled / volume).quantize(MICRO, ROUND_HALF_EVEN) if volume else None
