"""The facts of a decision: everything policy looks at, read in the transaction that acts on it."""

import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from neural_trader_governance import leases, live, mandates, overrides, principals, taints, throttles
from neural_trader_governance.audit import witnessing
from neural_trader_governance.errors import InputError
from neural_trader_governance.halts import Halt, covering_halt
from neural_trader_governance.policy.contexts import (
    PolicyContext,
    cents_down,
    cents_up,
    deviation_bps,
    micros_up,
)
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.market import Quote
from neural_trader_governance.terms.money import CENT
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, breaks
from neural_trader_tools.orders.messages import read_rates
from neural_trader_tools.orders.surroundings import Lookout
from neural_trader_tools.orders.valuation import estimate_price, read_portfolio, read_portfolios


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from beside the store.

    Attributes:
        live_switch: The operator's setting, the first of two switches for real money.
        issuer: The pinned key that enrolments, mandates and overrides are verified against.
        mandates_required: Nobody trades without a mandate, not even who never had one.
    """

    archive: Archive
    replay: ReplayClock
    mode: Literal["paper", "live"]
    live_switch: bool
    restricted_symbols: frozenset[str]
    issuer: VerifyingKey
    mandates_required: bool = False
    lookout: Lookout = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookout", Lookout(self.archive, self.replay))


@dataclass(frozen=True, slots=True)
class Facts:
    """A policy context, with the exact amounts that were rounded into it.

    Attributes:
        context: What policy decides on.
        price: The price that governs, in USD; zero where no quote is known (policy denies that).
        notional: price x quantity.
        reserve: Cash to hold back while the order works: whole cents, as fills take them.
        mandate_id: The mandate that is to be charged; None where none is.
        halt: What covers the order, if anything does.
        desk_time: The replay clock's moment at which all of this was read.
        last: The last price that was read; None where there is none.
        margin_call: What the account is called for.
        reduces: The order only closes what is held, and working orders close no more with it.
    """

    context: PolicyContext
    price: Decimal
    notional: Decimal
    reserve: Decimal
    mandate_id: str | None
    halt: Halt | None
    desk_time: datetime
    last: Decimal | None
    margin_call: Decimal
    reduces: bool

    def with_approvals(self, count: int, independent: int) -> "Facts":
        """Returns the same facts, the number of verified signatures added."""
        update = {"approvals": count, "approvals_independent": independent}
        return replace(self, context=self.context.model_copy(update=update))


def gather(
    connection: sqlite3.Connection,
    intent: OrderIntent,
    sources: Sources,
    *,
    principal: str,
    policy_digest: str,
    now: datetime,
) -> Facts:
    """Reads the accounts, the market, who asks, what stands against him, and what was sent before.

    Args:
        connection: Inside the transaction that acts on the answer.
        intent: What is to be judged.
        sources: The market, the venue's mode, and the pinned issuer.
        principal: The person whom the agent serves.
        policy_digest: Of the policy that is to decide.
        now: The machine's time; the market's is the replay clock's.

    Raises:
        DataError: the symbol is unknown, or something held has no price.
        InputError: the account does not exist, or is in another currency than the symbol; or an amount lies
            beyond policy's range.
    """
    around = sources.lookout.at(intent.symbol)
    quote, issuer = around.quote, sources.issuer
    last = {intent.symbol: quote.last} if quote else {}
    portfolios = read_portfolios(connection, sources.archive, sources.replay, last)
    portfolio = portfolios.get(intent.account) or read_portfolio(
        connection, intent.account, sources.archive, sources.replay
    )
    if around.tradable and around.currency != portfolio.currency:
        raise InputError(
            "foreign_currency",
            f"{intent.symbol} trades in {around.currency}, and {intent.account} is an account in"
            f" {portfolio.currency} that converts nothing",
            f"trade it in an account in {around.currency}",
        )
    price = estimate_price(intent, quote.last) if quote else Decimal(0)
    notional = price * intent.quantity
    cents, buying = cents_up(notional), intent.side == "buy"
    exposure = _exposure(connection, portfolio, portfolios, intent, price)
    who = {"agent": intent.agent, "account": intent.account, "symbol": intent.symbol}
    halt = covering_halt(connection, strategy_id=intent.strategy_id, **who)
    mandate = mandates.assess(
        connection,
        issuer=issuer,
        side=intent.side,
        notional_cents=cents,
        now=now,
        required_for_all=sources.mandates_required,
        **who,
    )
    throttle = throttles.read(connection, intent.agent)
    rates = read_rates(
        connection, intent, now=now, day=around.desk_time.date(), enabled_us=throttle.enabled_us
    )
    taint = taints.standing(connection, principal=principal, agent=intent.agent)
    witness = witnessing.standing(connection, now=now)
    context = PolicyContext(
        action_mode=sources.mode,
        live_enabled=sources.live_switch
        and live.is_permitted(connection, issuer=issuer, policy_digest=policy_digest, now=now),
        halted=halt is not None,
        halt_scope=str(halt.scope) if halt else "",
        principal=principal,
        principal_may_trade=principals.may_trade(connection, principal, issuer=issuer),
        agent=intent.agent,
        # The gate asked for its role when the call began, and a person may have been asked since.
        agent_may_trade=accounts.may_trade(connection, account=intent.account, agent=intent.agent)
        and principals.may_trade(connection, intent.agent, issuer=issuer, kind="agent"),
        mandate_required=mandate.required,
        mandate_covers=mandate.covers,
        mandate_note=mandate.note,
        account=intent.account,
        symbol=intent.symbol,
        side=intent.side,
        order_type=intent.type,
        time_in_force=intent.time_in_force,
        tradable=around.tradable,
        restricted=intent.symbol in sources.restricted_symbols,
        quantity_micros=micros_up(intent.quantity),
        notional_cents=cents,
        volume_share_bps=around.volume_share_bps(intent.quantity),
        reference_move_bps=around.reference_move_bps(intent.side, price),
        limit_deviation_bps=_deviation(intent, quote),
        position_after_cents=cents_up(exposure.position),
        gross_after_cents=cents_up(exposure.gross),
        desk_gross_after_cents=cents_up(exposure.desk_gross),
        short_after=exposure.short,
        equity_cents=cents_down(portfolio.equity),
        buying_power_cents=cents_down(portfolio.buying_power),
        required_cash_cents=cents if buying else 0,
        day_pnl_cents=cents_down(portfolio.day_pnl),
        desk_equity_cents=cents_down(sum((each.equity for each in portfolios.values()), Decimal(0))),
        desk_day_pnl_cents=cents_down(sum((each.day_pnl for each in portfolios.values()), Decimal(0))),
        agent_sent_today_cents=rates.agent_sent_cents + cents,
        account_sent_today_cents=rates.account_sent_cents + cents,
        messages_last_minute=rates.messages + 1,
        desk_messages_last_minute=rates.desk_messages + 1,
        duplicates_last_10_s=rates.duplicates,
        repeats_last_10_min=rates.repeats + 1,
        throttled=throttle.tripped,
        lease_lost=leases.is_lost(connection, intent.agent, now=now),
        reconciliation_breaks=breaks.count_open(connection, intent.account),
        session_open=not around.closed,
        session_note=around.closed,
        quote_known=quote is not None,
        quote_age_s=around.quote_age_s,
        tainted=taint != "",
        taint_note=taint,
        overrides=overrides.lifted_rules(connection, issuer=issuer, now=now, **who),
        approvals=0,
        approvals_independent=0,
        witness_required=witness.required,
        witness_consistent=witness.consistent,
        witness_age_s=witness.age_s,
    )
    reserve = context.required_cash_cents * CENT
    return Facts(
        context,
        price,
        notional,
        reserve,
        mandate.mandate_id,
        halt,
        around.desk_time,
        last=quote.last if quote else None,
        margin_call=portfolio.margin_call,
        reduces=exposure.reduces,
    )


@dataclass(frozen=True, slots=True)
class _Exposure:
    """What would be held if the order, and every working order that adds to it, fills."""

    position: Decimal
    gross: Decimal
    desk_gross: Decimal
    short: bool
    reduces: bool


def _exposure(
    connection: sqlite3.Connection,
    portfolio: Portfolio,
    portfolios: dict[str, Portfolio],
    intent: OrderIntent,
    price: Decimal,
) -> _Exposure:
    """Values positions at the market, and working purchases at the cash that they reserve."""
    held = next((p.quantity for p in portfolio.positions if p.symbol == intent.symbol), Decimal(0))
    working = accounts.working_quantity(connection, intent.account, intent.symbol, intent.side)
    signed = intent.quantity if intent.side == "buy" else -intent.quantity
    others = _gross(portfolio, but=intent.symbol)
    elsewhere = sum(
        (_gross(each) + each.reserved_cash for name, each in portfolios.items() if name != intent.account),
        Decimal(0),
    )
    gross = others + abs((held + signed) * price) + portfolio.reserved_cash
    position = (held + (working if intent.side == "buy" else -working) + signed) * price
    short = intent.side == "sell" and held - working < intent.quantity
    reduces = held * signed < 0 and working + intent.quantity <= abs(held)
    return _Exposure(position, gross, gross + elsewhere, short, reduces)


def _gross(portfolio: Portfolio, but: str = "") -> Decimal:
    return sum(
        (abs(p.market_value or Decimal(0)) for p in portfolio.positions if p.symbol != but), Decimal(0)
    )


def _deviation(intent: OrderIntent, quote: Quote | None) -> int:
    if quote is None or intent.limit_price is None:
        return 0
    return deviation_bps(intent.side, intent.limit_price, quote.last)
