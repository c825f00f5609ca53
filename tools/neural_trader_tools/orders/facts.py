"""The facts of a decision: everything policy looks at, read in the transaction that acts on it."""

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from neural_trader_governance import taints
from neural_trader_governance.errors import DataError
from neural_trader_governance.halts import read_halt
from neural_trader_governance.policy.contexts import (
    PolicyContext,
    cents_down,
    cents_up,
    deviation_bps,
    micros_up,
)
from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_governance.terms.market import Quote
from neural_trader_governance.terms.money import CENT
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.valuation import estimate_price, read_portfolio


@dataclass(frozen=True, slots=True)
class Facts:
    """A policy context, with the exact amounts that were rounded into it.

    Attributes:
        context: What policy decides on.
        price: The price that governs, in USD; zero where no quote is known (policy denies that).
        notional: price x quantity.
        reserve: Cash to hold back while the order works: whole cents, as fills take them.
    """

    context: PolicyContext
    price: Decimal
    notional: Decimal
    reserve: Decimal

    def with_approvals(self, count: int, independent: int) -> "Facts":
        """Returns the same facts, the number of verified signatures added."""
        update = {"approvals": count, "approvals_independent": independent}
        return replace(self, context=self.context.model_copy(update=update))


def gather(
    connection: sqlite3.Connection,
    intent: OrderIntent,
    *,
    archive: Archive,
    replay: ReplayClock,
    now: datetime,
    mode: Literal["paper", "live"],
    live_enabled: bool,
    tradable: bool,
    restricted: bool,
    principal: str,
) -> Facts:
    """Reads the account, the quote, the halt and the agent's recent orders.

    Raises:
        InputError: the account does not exist, or an amount lies beyond policy's range.
    """
    portfolio = read_portfolio(connection, intent.account, archive, replay)
    quote = _quote(replay, intent.symbol)
    price = estimate_price(intent, quote.last) if quote else Decimal(0)
    notional = price * intent.quantity
    buying = intent.side == "buy"
    required_cents = cents_up(notional) if buying else 0
    after, gross = _exposure_after(portfolio, intent, price)
    selling = accounts.working_quantity(connection, intent.account, intent.symbol, "sell")
    taint_note = taints.standing(connection, principal=principal, agent=intent.agent)
    context = PolicyContext(
        action_mode=mode,
        live_enabled=live_enabled,
        halted=read_halt(connection) is not None,
        halt_scope="",
        principal=principal,
        principal_may_trade=True,
        agent=intent.agent,
        agent_may_trade=accounts.may_trade(connection, account=intent.account, agent=intent.agent),
        mandate_required=False,
        mandate_covers=True,
        mandate_note="",
        account=intent.account,
        symbol=intent.symbol,
        side=intent.side,
        order_type=intent.type,
        time_in_force=intent.time_in_force,
        tradable=tradable,
        restricted=restricted,
        quantity_micros=micros_up(intent.quantity),
        notional_cents=cents_up(notional),
        volume_share_bps=0,
        reference_move_bps=0,
        limit_deviation_bps=_deviation(intent, quote),
        position_after_cents=cents_up(after),
        gross_after_cents=cents_up(gross),
        desk_gross_after_cents=cents_up(gross),
        short_after=not buying and _held(portfolio, intent.symbol) - selling < intent.quantity,
        equity_cents=cents_down(portfolio.equity),
        buying_power_cents=cents_down(portfolio.buying_power),
        required_cash_cents=required_cents,
        day_pnl_cents=cents_down(portfolio.day_pnl),
        desk_equity_cents=cents_down(portfolio.equity),
        desk_day_pnl_cents=cents_down(portfolio.day_pnl),
        agent_sent_today_cents=cents_up(notional),
        account_sent_today_cents=cents_up(notional),
        messages_last_minute=_orders_since(connection, intent.agent, now - timedelta(minutes=1)) + 1,
        desk_messages_last_minute=1,
        duplicates_last_10_s=0,
        repeats_last_10_min=0,
        throttled=False,
        lease_lost=False,
        reconciliation_breaks=0,
        session_open=True,
        session_note="",
        quote_known=quote is not None,
        quote_age_s=max(0, int((replay.now() - quote.event_time).total_seconds())) if quote else 0,
        tainted=taint_note != "",
        taint_note=taint_note,
        overrides=(),
        approvals=0,
        approvals_independent=0,
        witness_required=False,
        witness_consistent=True,
        witness_age_s=0,
    )
    return Facts(context, price, notional, reserve=required_cents * CENT)


def _quote(replay: ReplayClock, symbol: str) -> Quote | None:
    try:
        return replay.quote(symbol)
    except DataError:
        return None


def _deviation(intent: OrderIntent, quote: Quote | None) -> int:
    if quote is None or intent.limit_price is None:
        return 0
    return deviation_bps(intent.side, intent.limit_price, quote.last)


def _held(portfolio: Portfolio, symbol: str) -> Decimal:
    return next((p.quantity for p in portfolio.positions if p.symbol == symbol), Decimal(0))


def _exposure_after(portfolio: Portfolio, intent: OrderIntent, price: Decimal) -> tuple[Decimal, Decimal]:
    """Returns the value of the symbol's position, and of all positions, if the order fills."""
    signed = intent.quantity if intent.side == "buy" else -intent.quantity
    after = (_held(portfolio, intent.symbol) + signed) * price
    others = sum(
        (abs(p.market_value or Decimal(0)) for p in portfolio.positions if p.symbol != intent.symbol),
        Decimal(0),
    )
    return after, others + abs(after)


def _orders_since(connection: sqlite3.Connection, agent: str, moment: datetime) -> int:
    row = connection.execute(
        "SELECT COUNT(*) FROM orders WHERE agent = ? AND created_us > ?", (agent, to_epoch_us(moment))
    ).fetchone()
    return int(row[0])
