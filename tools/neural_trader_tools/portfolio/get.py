"""The tool `portfolio_get`: cash, positions and what they are worth."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_tools.orders.desk import Desk


class PositionRow(BaseModel):
    """One holding; quantity is negative when short."""

    symbol: str
    quantity: str
    average_price: str
    market_price: str | None
    market_value: str | None
    unrealized_pnl: str | None
    realized_pnl: str


class PortfolioResult(BaseModel):
    """One account, valued at the clock's prices; amounts in its currency."""

    account: str
    currency: str
    cash: str
    settled_cash: str
    reserved_cash: str
    buying_power: str
    equity: str
    exposure: str = Field(description="Gross market value over equity")
    day_pnl: str
    positions: list[PositionRow]
    priced_at: str | None
    clock: str = Field(description="wall, or replay over archived prices")


async def portfolio_get(
    desk: Desk,
    caller: Caller,
    *,
    account: Annotated[str, Field(description="Account name", max_length=40)] = "paper",
) -> PortfolioResult:
    """Show cash, buying power, equity, day profit and positions of an account."""
    await desk.reconcile(caller)
    portfolio = await desk.portfolio(account)
    gross = sum((abs(position.market_value or Decimal(0)) for position in portfolio.positions), Decimal(0))
    exposure = gross / portfolio.equity if portfolio.equity else Decimal(0)
    dump = portfolio.model_dump(mode="json")
    return PortfolioResult(
        account=portfolio.account,
        currency=portfolio.currency,
        cash=dump["cash"],
        settled_cash=dump["settled_cash"],
        reserved_cash=dump["reserved_cash"],
        buying_power=dump["buying_power"],
        equity=dump["equity"],
        exposure=format_decimal(round(exposure, 6)),
        day_pnl=dump["day_pnl"],
        positions=[PositionRow(**position) for position in dump["positions"] if position["quantity"] != "0"],
        priced_at=format_time(portfolio.priced_at) if portfolio.priced_at else None,
        clock=portfolio.clock,
    )
