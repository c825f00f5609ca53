"""The tool `portfolio_get`: cash, positions and what they are worth."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_tools.orders.desk import Desk


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else format_decimal(value)


class PositionRow(BaseModel):
    """One holding; quantity is negative when short."""

    symbol: str
    quantity: str
    average_price: str
    market_price: str | None
    market_value: str | None
    unrealized_pnl: str | None
    realized_pnl: str


class RiskResult(BaseModel):
    """What the account may lose in a day (`orders.risk`), and what its lender asks (`accounting.margin`)."""

    var: str | None
    cvar: str | None
    confidence: float
    method: str
    observations: int
    note: str
    maintenance: str
    margin_call: str


class PortfolioResult(BaseModel):
    """One account, valued at the clock's prices; amounts in its currency."""

    account: str
    mode: str
    currency: str
    cash: str
    settled_cash: str
    reserved_cash: str
    buying_power: str
    equity: str
    exposure: str
    day_pnl: str
    risk: RiskResult
    positions: list[PositionRow]
    priced_at: str | None
    clock: str


async def portfolio_get(
    desk: Desk,
    caller: Caller,
    *,
    account: Annotated[str, Field(description="Account name", max_length=40)] = "paper",
) -> PortfolioResult:
    """Show what an account holds, is worth, and may lose in a day."""
    await desk.reconcile(caller)
    return await describe(desk, account)


async def describe(desk: Desk, account: str) -> PortfolioResult:
    """Returns an account as the desk knows it, without asking the venue first.

    Raises:
        InputError: `unknown_account`.
    """
    portfolio = await desk.portfolio(account)
    risk = await desk.risk(portfolio)
    gross = sum((abs(position.market_value or Decimal(0)) for position in portfolio.positions), Decimal(0))
    exposure = gross / portfolio.equity if portfolio.equity else Decimal(0)
    dump = portfolio.model_dump(mode="json")
    return PortfolioResult(
        account=portfolio.account,
        mode=desk.broker.mode,
        currency=portfolio.currency,
        cash=dump["cash"],
        settled_cash=dump["settled_cash"],
        reserved_cash=dump["reserved_cash"],
        buying_power=dump["buying_power"],
        equity=dump["equity"],
        exposure=format_decimal(round(exposure, 6)),
        day_pnl=dump["day_pnl"],
        risk=RiskResult(
            var=_amount(risk.var),
            cvar=_amount(risk.cvar),
            confidence=risk.confidence,
            method=risk.method,
            observations=risk.observations,
            note=risk.note,
            maintenance=dump["maintenance"],
            margin_call=dump["margin_call"],
        ),
        positions=[PositionRow(**position) for position in dump["positions"] if position["quantity"] != "0"],
        priced_at=format_time(portfolio.priced_at) if portfolio.priced_at else None,
        clock=portfolio.clock,
    )
