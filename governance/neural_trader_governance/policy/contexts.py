"""Policy contexts: every input of a decision, as bounded whole numbers, booleans and short names.

Cedar skips a `forbid` whose evaluation errors, so nothing may overflow or be missing there: all
arithmetic happens here, rounded against the order, and Cedar only compares.
"""

import json
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.orders import AccountId, AgentId, OrderType, Side, TimeInForce
from neural_trader_governance.terms.term import Term

CENTS_MAX = 10**15
MICROS_MAX = 10**15
BPS_MAX = 10**9
SECONDS_MAX = 10**10

_SignedCents = Annotated[int, Field(ge=-CENTS_MAX, le=CENTS_MAX)]
_Cents = Annotated[int, Field(ge=0, le=CENTS_MAX)]
_Count = Annotated[int, Field(ge=0, le=10**6)]
_Note = Annotated[str, Field(max_length=200)]

Fact = int | bool | str | list[str]


class PolicyContext(Term):
    """What policy knows about one order; a value out of its bounds is refused, never clipped."""

    model_config = ConfigDict(strict=True)

    action_mode: Literal["paper", "live"]
    live_enabled: bool = Field(description="A person switched live trading on")
    halted: bool = Field(description="A halt covers this order")
    halt_scope: _Note = Field(description="What the halt covers, such as `symbol AAPL`; empty without one")
    principal: _Note = Field(description="The person whom the agent serves")
    principal_may_trade: bool = Field(description="The principal is enrolled with the role trader")
    agent: AgentId
    agent_may_trade: bool = Field(description="The agent is permitted to trade this account")
    mandate_required: bool = Field(description="The agent trades under mandates")
    mandate_covers: bool = Field(description="One of them, in force and signed, has room for this order")
    mandate_note: _Note = Field(description="Why none covers it; empty if one does")
    account: AccountId
    symbol: Symbol
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    tradable: bool = Field(description="False for an index or a rate")
    restricted: bool = Field(description="The symbol is on the restricted list")
    quantity_micros: int = Field(gt=0, le=MICROS_MAX, description="Millionths of a unit, rounded up")
    notional_cents: _Cents = Field(description="Worst-case value of the order, rounded up")
    volume_share_bps: int = Field(
        ge=0, le=BPS_MAX, description="Quantity over the mean daily volume of 20 sessions; 0 if unknown"
    )
    reference_move_bps: int = Field(
        ge=0, le=BPS_MAX, description="Distance of the price from the median close of 5 sessions"
    )
    limit_deviation_bps: int = Field(
        ge=-BPS_MAX,
        le=BPS_MAX,
        description="How far the limit lies through the market (buy above, sell below); 0 without a limit",
    )
    position_after_cents: _SignedCents = Field(description="Value of the position if the order fills")
    gross_after_cents: _Cents = Field(description="Absolute value of all positions if the order fills")
    desk_gross_after_cents: _Cents = Field(description="The same over all accounts of the desk")
    short_after: bool = Field(description="The position would be short if this and all working sells fill")
    equity_cents: _SignedCents
    buying_power_cents: _SignedCents = Field(description="Cash not reserved for working orders")
    required_cash_cents: _Cents = Field(description="Cash that the order needs with costs; 0 for a sell")
    day_pnl_cents: _SignedCents
    desk_equity_cents: _SignedCents = Field(description="Equity of all accounts")
    desk_day_pnl_cents: _SignedCents = Field(description="Profit of the day of all accounts")
    agent_sent_today_cents: _Cents = Field(description="Value sent by this agent today, this one included")
    account_sent_today_cents: _Cents = Field(description="The same to this account, of all agents")
    messages_last_minute: _Count = Field(description="Orders and cancels of this agent, this one included")
    desk_messages_last_minute: _Count = Field(description="The same of all agents")
    duplicates_last_10_s: _Count = Field(description="The same order sent by this agent just before")
    repeats_last_10_min: _Count = Field(description="Orders of this strategy, symbol and side just before")
    throttled: bool = Field(description="Repeated execution tripped, and no person has enabled it again")
    lease_lost: bool = Field(description="The agent stopped renewing its lease")
    reconciliation_breaks: _Count = Field(description="Open differences between desk and venue")
    session_open: bool = Field(description="The venue trades at the desk's time")
    session_note: _Note = Field(description="Why it does not; empty if it does")
    quote_known: bool
    quote_age_s: int = Field(ge=0, le=SECONDS_MAX, description="Against the desk's clock; 0 if unknown")
    tainted: bool = Field(description="The agent read text that came from outside")
    taint_note: _Note = Field(description="Where that text came from; empty without any")
    overrides: Annotated[tuple[_Note, ...], Field(max_length=32, strict=False)] = Field(
        description="Rules that a person has lifted for this order, sorted"
    )
    approvals: int = Field(ge=0, le=100, description="Persons who signed this very preview")
    approvals_independent: int = Field(ge=0, le=100, description="Those of them who are not the principal")
    witness_required: bool = Field(description="A witness is pinned on this desk")
    witness_consistent: bool = Field(description="The log contains what the witness cosigned last")
    witness_age_s: int = Field(ge=0, le=SECONDS_MAX, description="Since the witness cosigned last")

    @property
    def leverage_after_bps(self) -> int:
        """Gross exposure after the order over equity, rounded up; the bound where equity is gone."""
        return _ratio_bps(self.gross_after_cents, self.equity_cents)

    @property
    def day_loss_bps(self) -> int:
        """Loss of the day over the equity that the day began with, rounded up; 0 for a gain."""
        return _ratio_bps(max(0, -self.day_pnl_cents), self.equity_cents - self.day_pnl_cents)

    @property
    def desk_day_loss_bps(self) -> int:
        """The same over all accounts of the desk."""
        return _ratio_bps(max(0, -self.desk_day_pnl_cents), self.desk_equity_cents - self.desk_day_pnl_cents)

    @classmethod
    def from_logged(cls, logged: Mapping[str, object]) -> Self:
        """Reads the context back from a decision entry's payload, where JSON has no tuples.

        Raises:
            InputError: it is not a context of this version.
        """
        try:
            return cls.model_validate_json(json.dumps(logged))
        except (ValidationError, TypeError, ValueError, RecursionError) as error:
            raise InputError(
                "not_a_context",
                f"the logged facts are no context of this version ({type(error).__name__})",
                "decide with the version that wrote the entry",
            ) from None

    def facts(self) -> dict[str, Fact]:
        """Returns what Cedar sees: the fields and the ratios."""
        return {
            **self.model_dump(exclude={"overrides"}),
            "overrides": list(self.overrides),
            "leverage_after_bps": self.leverage_after_bps,
            "day_loss_bps": self.day_loss_bps,
            "desk_day_loss_bps": self.desk_day_loss_bps,
        }


ORDINARY = PolicyContext(
    action_mode="paper",
    live_enabled=False,
    halted=False,
    halt_scope="",
    principal="alice",
    principal_may_trade=True,
    agent="agent-1",
    agent_may_trade=True,
    mandate_required=False,
    mandate_covers=True,
    mandate_note="",
    account="paper",
    symbol="AAPL",
    side="buy",
    order_type="market",
    time_in_force="day",
    tradable=True,
    restricted=False,
    quantity_micros=10_000_000,
    notional_cents=50_000,
    volume_share_bps=0,
    reference_move_bps=0,
    limit_deviation_bps=0,
    position_after_cents=50_000,
    gross_after_cents=50_000,
    desk_gross_after_cents=50_000,
    short_after=False,
    equity_cents=10_000_000,
    buying_power_cents=10_000_000,
    required_cash_cents=50_100,
    day_pnl_cents=0,
    desk_equity_cents=10_000_000,
    desk_day_pnl_cents=0,
    agent_sent_today_cents=50_000,
    account_sent_today_cents=50_000,
    messages_last_minute=1,
    desk_messages_last_minute=1,
    duplicates_last_10_s=0,
    repeats_last_10_min=0,
    throttled=False,
    lease_lost=False,
    reconciliation_breaks=0,
    session_open=True,
    session_note="",
    quote_known=True,
    quote_age_s=60,
    tainted=False,
    taint_note="",
    overrides=(),
    approvals=0,
    approvals_independent=0,
    witness_required=False,
    witness_consistent=True,
    witness_age_s=0,
)
"""Ten shares for 500 USD in an account of 100,000 USD: what probes and examples start from."""


def cents_up(amount: Decimal) -> int:
    """Returns whole cents, rounded up (against the order).

    Raises:
        InputError: beyond ±1e13 USD, or not finite.
    """
    return _whole_up(amount * 100 if amount.is_finite() else amount, CENTS_MAX, "amount")


def cents_down(amount: Decimal) -> int:
    """Returns whole cents, rounded down: for what is had rather than needed.

    Raises:
        InputError: beyond ±1e13 USD, or not finite.
    """
    return -cents_up(-amount)


def micros_up(quantity: Decimal) -> int:
    """Returns millionths of a unit, rounded up.

    Raises:
        InputError: beyond ±1e9 units, or not finite.
    """
    return _whole_up(quantity * 10**6 if quantity.is_finite() else quantity, MICROS_MAX, "quantity")


def deviation_bps(side: Side, limit_price: Decimal, market_price: Decimal) -> int:
    """Returns how far a limit lies through the market, in basis points, rounded up.

    Raises:
        InputError: the market price is not positive, or the distance beyond 1e9.
    """
    if not market_price > 0:
        raise InputError(
            "invalid_price", f"the market price {market_price} is not positive", "wait for a quote"
        )
    through = limit_price - market_price if side == "buy" else market_price - limit_price
    return _whole_up(through * 10_000 / market_price, BPS_MAX, "deviation")


def _whole_up(value: Decimal, bound: int, noun: str) -> int:
    if not value.is_finite() or abs(value) > bound:
        raise InputError(
            f"{noun}_out_of_range", f"the {noun} lies beyond policy's range", f"give a smaller {noun}"
        )
    return int(value.to_integral_value(ROUND_CEILING))


def _ratio_bps(part: int, whole: int) -> int:
    if part == 0:
        return 0
    if whole <= 0:
        return BPS_MAX
    return min(BPS_MAX, -(-part * 10_000 // whole))
