"""Fills: what a broker says was executed. The only thing that changes cash and positions."""

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import Currency, DecimalText
from neural_trader_governance.terms.orders import Side
from neural_trader_governance.terms.term import Term


class Fill(Term):
    """One execution of one order; `execution_id` makes applying it twice impossible."""

    execution_id: str = Field(min_length=1, max_length=80)
    client_order_id: str
    symbol: Symbol
    side: Side
    quantity: DecimalText = Field(gt=0)
    price: DecimalText = Field(gt=0)
    fee: DecimalText = Field(ge=0)
    currency: Currency = "USD"
    event_time: UtcTime = Field(description="When it happened, on `clock`")
    known_time: UtcTime = Field(description="When the desk could first know it, on the wall clock")
    clock: str = Field(description="`wall`, or `replay` where the venue lives on archived prices")
    rule: str = Field(max_length=200, description="The stated rule that set the price")
