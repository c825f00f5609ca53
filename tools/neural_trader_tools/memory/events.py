"""What the log says happened, in words worth remembering: an order, a closed trade, a look back on it.

Computed, by no model: the same entries give the same words. A memory of figures alone is the desk's own and
verified; one that repeats an agent's reason is no more than asserted, and untrusted if the agent had read
text from outside by then, so that nobody's words gain trust on their way through the desk.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pydantic import JsonValue

from neural_trader_governance.audit.entries import LoggedEntry
from neural_trader_governance.terms.money import format_decimal, from_micros, from_nanos
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.words import one_line, visible
from neural_trader_memory.limits import CAUSES_MAX
from neural_trader_memory.records import Kind, Trust
from neural_trader_tools.memory.trips import Trip


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened and is remembered once.

    Attributes:
        key: Names it for ever: the memory's id is made of it.
        agent: Whose memory it becomes.
        causes: Keys of the events that it follows from.
        recalled: Names of memories (`recalls.name_memory`) that it follows from.
        regime_time: When the market was as the memory should be found by; None: no regime.
    """

    key: str
    agent: str
    kind: Kind
    text: str
    symbols: tuple[str, ...]
    data: Mapping[str, JsonValue]
    event_time: datetime
    about_seq: int
    trust: Trust
    causes: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    regime_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """An order as the log has it.

    Attributes:
        tainted: Whether its agent had read text from outside when it was sent.
        recalled: What its agent had recalled, by name.
    """

    client_order_id: str
    seq: int
    intent: OrderIntent
    price: Decimal | None
    tainted: bool
    recalled: tuple[str, ...]

    @property
    def trust(self) -> Trust:
        """How far its reason is to be trusted."""
        return "untrusted" if self.tainted else "asserted"


def memory_id_of(origin: str, key: str) -> str:
    """Returns the id of an event's memory: the same on every start of the same desk."""
    digest = hashlib.sha256(f"neural-trader/capture\0{origin}\0{key}".encode()).hexdigest()
    return f"mem-{digest[:16]}"


def order_key(client_order_id: str) -> str:
    """Returns the key of an order's event."""
    return f"order:{client_order_id}"


def of_order(placed: Placed, entry: LoggedEntry) -> Event:
    """Returns the memory of an order that was sent."""
    intent = placed.intent
    at = "" if placed.price is None else f" at about {format_decimal(placed.price)} a unit"
    text = (
        f"Order to {intent.side} {format_decimal(intent.quantity)} {intent.symbol} ({_terms(intent)}){at}."
        f" Reason given: {_quoted(intent.reason)}"
    )
    data: dict[str, JsonValue] = {
        "client_order_id": placed.client_order_id,
        "intent": intent.model_dump(mode="json", exclude_none=True),
        "recalled": list(placed.recalled),
    }
    return Event(
        key=order_key(placed.client_order_id),
        agent=intent.agent,
        kind="order",
        text=text,
        symbols=(intent.symbol,),
        data=data,
        event_time=entry.ts,
        about_seq=entry.seq,
        trust=placed.trust,
    )


def of_trip(trip: Trip, agent: str, currency: str) -> Event:
    """Returns the memory of a closed trade: figures alone."""
    way = "long" if trip.sign > 0 else "short"
    figures = _trip_figures(trip, currency)
    text = (
        f"Closed {way} trade in {trip.symbol}: {figures['entered']} units in at {figures['entry_price']},"
        f" out at {figures['exit_price']}; {figures['outcome']} {figures['profit']} {currency}"
        f" ({figures['profit_bps']} bps) after {figures['fees']} {currency} of fees; held {_length(trip)}."
    )
    return Event(
        key=f"trade:{trip.account}:{trip.first_seq}-{trip.last_seq}",
        agent=agent,
        kind="trade",
        text=text,
        symbols=(trip.symbol,),
        data=figures,
        event_time=_closed(trip),
        about_seq=trip.last_seq,
        trust="verified",
        causes=tuple(order_key(each) for each in trip.orders[: CAUSES_MAX - 1]),
        regime_time=trip.opened_time,
    )


def of_reflection(trip: Trip, trade: Event, entry: Placed, last: Placed, currency: str) -> Event:
    """Returns the look back on a closed trade: what was meant, what came of it and cost, what was recalled.

    It speaks of the entry order, so that it is the outcome of every decision that spoke of it.
    """
    figures = _trip_figures(trip, currency)
    slippage = format_decimal(from_micros(trip.slippage))
    known = f"{len(entry.recalled)} memories" if entry.recalled else "nothing"
    text = (
        f"Looking back on the {'long' if trip.sign > 0 else 'short'} trade in {trip.symbol}:"
        f" {figures['outcome']} {figures['profit']} {currency} ({figures['profit_bps']} bps)"
        f" in {_length(trip)}. It was entered because: {_quoted(entry.intent.reason)}."
        f" It was closed because: {_quoted(last.intent.reason)}."
        f" Costs: fees {figures['fees']}, and {slippage} {currency} worse than previewed."
        f" Recalled before the entry: {known}."
    )
    data: dict[str, JsonValue] = {
        **figures,
        "slippage": slippage,
        "entry_reason": entry.intent.reason,
        "exit_reason": last.intent.reason,
        "recalled": list(entry.recalled),
    }
    return Event(
        key=trade.key.replace("trade:", "reflection:", 1),
        agent=trade.agent,
        kind="reflection",
        text=text,
        symbols=trade.symbols,
        data=data,
        event_time=trade.event_time,
        about_seq=entry.seq,
        trust="untrusted" if entry.tainted or last.tainted else "asserted",
        causes=tuple(
            dict.fromkeys((trade.key, *map(order_key, (entry.client_order_id, last.client_order_id))))
        ),
        recalled=entry.recalled,
        regime_time=trade.regime_time,
    )


def _trip_figures(trip: Trip, currency: str) -> dict[str, JsonValue]:
    return {
        "account": trip.account,
        "outcome": "profit" if trip.profit > 0 else "loss" if trip.profit < 0 else "flat",
        "profit": format_decimal(from_micros(trip.profit)),
        "profit_bps": trip.profit_bps,
        "currency": currency,
        "entered": format_decimal(from_nanos(trip.entered)),
        "entry_price": _each(trip.entry_cash, trip.entered),
        "exit_price": _each(trip.exit_cash, trip.left),
        "fees": format_decimal(from_micros(trip.fees)),
        "fills": trip.fills,
        "orders": list[JsonValue](trip.orders[:50]),
        "holding_s": int((_closed(trip) - trip.opened_time).total_seconds()),
    }


def _closed(trip: Trip) -> datetime:
    return trip.opened_time if trip.closed_time is None else trip.closed_time


def _each(cash: int, quantity: int) -> str:
    """Returns the average price of a side, with its fees."""
    if not quantity:
        return "0"
    return format_decimal((abs(from_micros(cash)) / from_nanos(quantity)).quantize(Decimal("0.0001")))


def _length(trip: Trip) -> str:
    took = max(_closed(trip) - trip.opened_time, timedelta(0))
    hours, seconds = divmod(took.seconds, 3600)
    return f"{took.days} d {hours} h {seconds // 60} min"


def _terms(intent: OrderIntent) -> str:
    limit = f" {format_decimal(intent.limit_price)}" if intent.limit_price is not None else ""
    stop = f" stop {format_decimal(intent.stop_price)}" if intent.stop_price is not None else ""
    return f"{intent.type}{limit}{stop}, {intent.time_in_force}"


def _quoted(words: str) -> str:
    return f"«{one_line(visible(words))}»"
