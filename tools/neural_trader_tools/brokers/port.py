"""The broker port: the only way an order leaves the desk.

An adapter is told a `client_order_id` that is durable before it is called. It answers with what it
knows about that id, and may be asked again at any time; asking never changes anything.
"""

from contextlib import AbstractAsyncContextManager
from datetime import date
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import Currency, DecimalText
from neural_trader_governance.terms.orders import OrderIntent, OrderType, Side, TimeInForce
from neural_trader_governance.terms.term import Term

VenueState = Literal["accepted", "partially_filled", "filled", "canceled", "rejected", "expired", "replaced"]


class Leg(Term):
    """An order at the venue that we did not send as such: an exit made of one of ours, or a stranger's."""

    client_order_id: str = Field(pattern=r"^[!-~]{1,80}$", description="Shown to people and agents")
    symbol: Symbol
    side: Side
    quantity: DecimalText = Field(gt=0)
    type: OrderType
    limit_price: DecimalText | None = None
    stop_price: DecimalText | None = None
    time_in_force: TimeInForce


class VenueBooks(Term):
    """What a venue says of the whole account.

    Attributes:
        positions: Signed units by symbol; what is not named is not held.
        working: Orders that may still fill.
        unreadable: Ids of working orders that are nothing this desk could hold.
        is_complete: False where there are more working orders than the venue lists at once.
    """

    cash: DecimalText
    currency: str
    positions: dict[str, DecimalText]
    working: tuple[Leg, ...] = ()
    unreadable: tuple[str, ...] = ()
    is_complete: bool = True


class BrokerReport(Term):
    """Everything a venue knows about one order: its state and every fill so far.

    Attributes:
        fills: Oldest first.
        filled: What it says is filled in all; None where it does not count apart from its fills.
        legs: Orders that it made of this one.
    """

    client_order_id: str
    state: VenueState
    detail: str = ""
    fills: tuple[Fill, ...] = ()
    filled: DecimalText | None = None
    legs: tuple[Leg, ...] = ()


class Payment(Term):
    """Cash that a venue moved without a trade, under an id of its own.

    Attributes:
        amount: Signed: what was charged is below zero.
        day: At the venue.
        event_time: Noon of that day there, where the venue names no time.
    """

    payment_id: str = Field(pattern=r"^[!-~]{1,120}$")
    kind: Literal["dividend", "interest", "fee"]
    symbol: Symbol | None = None
    amount: DecimalText
    currency: Currency = "USD"
    day: date
    event_time: UtcTime
    detail: str = Field(default="", max_length=200)


class News(Term):
    """A venue's word that an order changed; what became of it is looked up."""

    client_order_id: str
    event: str


class NewsStream(Protocol):
    """A connection over which a venue tells of orders."""

    async def receive(self) -> News:
        """Returns the next news, waiting for them.

        Raises:
            NetworkError: the connection is over.
        """
        ...


@runtime_checkable
class Telling(Protocol):
    """A venue that tells by itself when an order changes."""

    def updates(self) -> AbstractAsyncContextManager[NewsStream]:
        """Connects; the venue has confirmed that it will tell when the context begins.

        Raises:
            ConfigurationError: no other try would help.
            NetworkError: another may.
        """
        ...


@runtime_checkable
class Paying(Protocol):
    """A venue that lists dividends, interest and fees."""

    async def payments(self, since: date) -> tuple[Payment, ...]:
        """Returns what it paid or charged from a day on, oldest first; perhaps more.

        Raises:
            NetworkError: it did not say.
        """
        ...


@runtime_checkable
class Listing(Protocol):
    """A venue that lists all working orders for the price of one request."""

    async def working(self) -> dict[str, tuple[VenueState, Decimal]]:
        """Returns the state and the filled units of the orders that may still fill, by client order id.

        An order that is not listed has ended, or is one too many for a list: it is asked about by itself.

        Raises:
            NetworkError: it did not say.
        """
        ...


class Broker(Protocol):
    """A venue. Every method may raise NetworkError: then the outcome is unknown, not negative."""

    @property
    def name(self) -> str:
        """Names the adapter in results and audit entries, such as `paper`."""
        ...

    @property
    def mode(self) -> Literal["paper", "live"]:
        """Tells whether fills cost real money."""
        ...

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Sends the order. An id that the venue has seen before is looked up, never executed again."""
        ...

    async def order(self, client_order_id: str) -> BrokerReport | None:
        """Returns what the venue knows, or None if it never saw the id."""
        ...

    async def cancel(self, client_order_id: str) -> BrokerReport:
        """Cancels what is still working and returns the state afterwards; an unknown id is barred."""
        ...

    async def close_unknown(self, client_order_id: str) -> BrokerReport:
        """Settles an order in doubt: a known one is reported; an unknown one is barred.

        After this call a late `submit` of an id that was unknown is rejected by the venue, so the
        desk may safely record that the order never happened.
        """
        ...

    def unsupported(self, intent: OrderIntent) -> str:
        """Returns why the venue would not take such an order, empty where it would; asks nobody.

        After the first "; " it says what to do instead.
        """
        ...

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Asks once that the order takes the place of `intent.replaces`, and reports the new order."""
        ...

    async def books(self) -> VenueBooks | None:
        """Returns the whole account as the venue has it; None where the desk's own books are all there is."""
        ...
