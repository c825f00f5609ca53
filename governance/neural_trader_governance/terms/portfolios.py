"""Positions and portfolios: what is held, and what it is worth at stated prices."""

from decimal import Decimal

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import Currency, DecimalText
from neural_trader_governance.terms.orders import AccountId
from neural_trader_governance.terms.term import Term


class Position(Term):
    """A holding in one instrument; quantity is negative when short."""

    symbol: Symbol
    quantity: DecimalText
    average_price: DecimalText = Field(description="Average cost of what is held")
    market_price: DecimalText | None = Field(default=None, description="Absent where no price is known")
    market_value: DecimalText | None = None
    unrealized_pnl: DecimalText | None = None
    realized_pnl: DecimalText


class Portfolio(Term):
    """One account at one moment."""

    account: AccountId
    currency: Currency = "USD"
    cash: DecimalText
    settled_cash: DecimalText
    reserved_cash: DecimalText = Field(description="Held back for orders that are working")
    buying_power: DecimalText
    equity: DecimalText = Field(description="Cash plus market value of the positions")
    maintenance: DecimalText = Field(default=Decimal(0), description="Equity that the positions require")
    margin_call: DecimalText = Field(default=Decimal(0), description="What equity lacks of that, or cash")
    day_pnl: DecimalText
    positions: tuple[Position, ...]
    priced_at: UtcTime | None = Field(default=None, description="Time of the market prices used")
    clock: str = Field(description="`wall` or `replay`")
