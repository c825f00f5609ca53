"""What happens to an account: the only things that change its books, each once and in order."""

from datetime import date
from typing import Literal

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import DecimalText, Money
from neural_trader_governance.terms.term import Term

PaymentKind = Literal["deposit", "withdrawal", "dividend", "interest", "fee"]


class AccountEvent(Term):
    """One event; `event_id` makes booking it twice impossible."""

    event_id: str = Field(min_length=1, max_length=160)
    event_time: UtcTime


class Opened(AccountEvent):
    """The account's first cash; it fixes the currency of everything that follows."""

    cash: Money


class Traded(AccountEvent):
    """One fill: signed quantity, and the signed cash that it moved, fee included.

    Attributes:
        settles_on: The date on which the cash becomes settled.
        strategy: Whom the fill is attributed to; empty where nobody was named.
    """

    symbol: Symbol
    quantity: DecimalText
    cash: Money
    fee: Money
    settles_on: date
    strategy: str = ""
    client_order_id: str = ""


class Received(AccountEvent):
    """A lot that came from elsewhere: signed quantity and cost, and no cash. It belongs to the beginning."""

    symbol: Symbol
    quantity: DecimalText
    cost: Money
    opened_time: UtcTime


class Paid(AccountEvent):
    """Cash without a trade, signed: a short position pays dividends."""

    kind: PaymentKind
    amount: Money
    symbol: Symbol | None = None


class Split(AccountEvent):
    """Every share becomes `ratio` shares; cost stays."""

    symbol: Symbol
    ratio: DecimalText = Field(gt=0)


class Renamed(AccountEvent):
    """What was held under one symbol is held under another."""

    symbol: Symbol
    new_symbol: Symbol


class Reserved(AccountEvent):
    """Cash that an order holds back from now on."""

    client_order_id: str
    amount: Money


class Released(AccountEvent):
    """Cash that an order no longer holds back."""

    client_order_id: str
    amount: Money


Event = Opened | Received | Traded | Paid | Split | Renamed | Reserved | Released
