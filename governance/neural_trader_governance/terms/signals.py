"""Signals: what a strategy wants, before anybody has decided whether it may."""

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.term import Term


class Signal(Term):
    """A target exposure decided on information up to `known_time`."""

    symbol: Symbol
    exposure: float = Field(ge=-1, le=1, description="Fraction of equity: -1 fully short, 1 fully long")
    event_time: UtcTime
    known_time: UtcTime
    strategy_id: str = Field(max_length=80)
