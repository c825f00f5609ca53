"""Prompts: the usual workflows, for menus of clients; each is a person's words to the agent, no more.

A prompt opens no right: what it asks for is a tool's call, which the gate and the policy judge as any other.
"""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from neural_trader_server.endpoint import Endpoint


def offer_prompts(endpoint: "Endpoint") -> None:
    """Adds the prompts to a server."""
    endpoint.prompt(title="Research an idea", description="From an idea to an honest backtest")(research_idea)
    endpoint.prompt(title="Review a trade", description="What was decided, why, and what came of it")(
        review_trade
    )
    endpoint.prompt(title="Daily risk review", description="Positions, limits, open orders, the log")(
        daily_risk_review
    )


def research_idea(
    idea: Annotated[str, Field(description="In plain words, such as: buy after three down days")],
    symbol: Annotated[str, Field(description="Ticker to try it on")] = "AAPL",
) -> str:
    """From an idea to an honest backtest."""
    return f"""\
Research this idea on {symbol}: {idea}

1. memory_search for the idea: what was tried before, and what came of it?
2. market_search {symbol}: which bars are there? strategy_get_api, then write the strategy.
3. strategy_check it; correct what it names. Look-ahead is a defect, not a detail.
4. backtest_start with realistic commission_bps and slippage_bps; keep the last third of the time out of it.
5. backtest_get with wait_s waits for the end. Read the warnings before the metrics. Each try counts: look
   at deflated_sharpe_ratio.
6. Run it once on the time that was kept out. backtest_compare both, and say what luck leaves of it.
7. memory_write what was learnt, also where the answer is no.

Say plainly whether the idea holds, how sure you are, and what would change your mind. Place no order."""


def review_trade(
    client_order_id: Annotated[str, Field(description="From orders_list")],
) -> str:
    """What was decided, why, and what came of it."""
    return f"""\
Review the order {client_order_id}.

1. orders_list: its state, fills and average price. audit_search: who decided what, by which rule, when.
2. memory_search for the decision: the reason given then, and what was recalled for it.
3. market_get_bars around the fill: the price before, at and after it. What did slippage and fees cost?
4. Was the reason right, was the size right, was the exit as planned? Part the decision from its luck.
5. memory_write one lesson, with audit_seq of the order, so that the next decision finds it.

Quote figures with where they come from. Place no order."""


def daily_risk_review() -> str:
    """Positions, limits, open orders, the log."""
    return """\
Review today's risk.

1. status_get: paper or live, halted, policy in force, how old the data is.
2. portfolio_get: positions, exposure, buying power, day profit, value at risk. How large is the largest?
3. orders_list: what still works, what was denied or waits for a person, what is unknown.
4. audit_search since this morning: refusals and their rules, halts, taints. audit_verify: is the log whole?
5. What would a fall of 5 % of the largest position do? Which limit is nearest?

List what a person should look at first, with the reason and the tool that shows it. Change nothing; where
something is wrong that cannot wait, say so, and that trading_halt stops everything."""
