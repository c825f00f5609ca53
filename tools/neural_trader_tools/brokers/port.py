"""The broker port: the only way an order leaves the desk.

An adapter is told a `client_order_id` that is durable before it is called. It answers with what it
knows about that id, and may be asked again at any time; asking never changes anything.
"""

from typing import Literal, Protocol

from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import DecimalText
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.term import Term

VenueState = Literal["accepted", "partially_filled", "filled", "canceled", "rejected", "expired", "replaced"]


class BrokerReport(Term):
    """Everything a venue knows about one order: its state and every fill so far.

    Attributes:
        fills: Oldest first.
        filled: What it says is filled in all; None where it does not count apart from its fills.
    """

    client_order_id: str
    state: VenueState
    detail: str = ""
    fills: tuple[Fill, ...] = ()
    filled: DecimalText | None = None


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
