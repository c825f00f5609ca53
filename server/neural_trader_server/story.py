"""The story that `neural-trader demo` tells: eight steps of an agent's day, each with its proof.

Every step calls our own server through the official MCP client, checks the facts that it claims
(`expect`), and returns them. A step that cannot prove its claim fails the demo.
"""

import json
import shutil
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
from mcp import Client

from neural_trader_server.stage import (
    Facts,
    Stage,
    ask,
    command,
    expect,
    flip_byte,
    need_sandbox,
    refusal,
)

SYMBOL = "AAPL"
FEATURES = [
    "sma(20)",
    "ema(20)",
    "rsi(14)",
    "macd(12,26,9).line",
    "atr(14)",
    "bbands(20,2).upper",
    "bbands(20,2).lower",
    "volatility(20)",
    "zscore(20)",
]
STRATEGY = '''"""Hold while the fast average is above the slow one."""
import polars


def signals(bars, fast=20, slow=100):
    close = bars["close"]
    above = close.rolling_mean(fast) > close.rolling_mean(slow)
    return above.fill_null(False).cast(polars.Float64)
'''
THIEF = """import numpy


def signals(bars):
    secret = numpy.fromfile("{target}", dtype="uint8").tobytes()
    raise RuntimeError("stolen: " + secret.decode())
"""
LESSON = (
    "Holding AAPL only while its 20-day average price is above its 100-day average worked from 2010 to 2013: "
    "Sharpe ratio {sharpe:.2f}, worst drawdown {drawdown:.0%}, {trades} trades."
)
PARAPHRASE = "did following the trend with moving averages pay off for Apple?"
SMALL_USD, LARGE_USD, TOO_LARGE_USD = Decimal(950), Decimal(11_200), Decimal(84_000)
"""Policy allows the first, holds the second for a person (over 10,000) and denies the third (over 50,000).

On a home that saw the demo before, the agent is tainted by what it read then: above 1,000 a person is asked.
"""
FRESH_S = 432_000
"""Age from which policy calls a price stale."""


class Step(NamedTuple):
    """One step: its name in the JSON document, its title for people, and what does it."""

    name: str
    title: str
    act: Callable[[Stage], Awaitable[Facts]]


async def look_around(stage: Stage) -> Facts:
    """Step 1: what is this desk?"""
    status = await ask(stage.client, "status_get")
    expect(status["mode"] == "paper", "the desk trades paper money", mode=status["mode"])
    expect(not status["halted"], "trading is not halted (neural-trader resume)", reason=status["halt_reason"])
    expect(len(status["policy_digest"]) == 64, "a policy is in force", digest=status["policy_digest"])
    expect(status["audit"]["size"] > 0, "the audit log has begun", audit=status["audit"])
    stage.lacking = list(status["sandbox"]["missing"])
    return status


async def read_prices(stage: Stage) -> Facts:
    """Step 2: real daily prices, as they could be known at the replay clock."""
    found = await ask(stage.client, "market_search", query="apple")
    symbols = [row["symbol"] for row in found["instruments"]]
    expect(SYMBOL in symbols, "a search for apple finds AAPL", symbols=symbols)
    bars = await ask(
        stage.client,
        "market_get_bars",
        symbol=SYMBOL,
        start="2012-09-01",
        columns=["close"],
        limit=150,
    )
    closes = bars["columns"]["close"]
    expect(
        len(closes) > 20 and all(close > 0 for close in closes), "there are real closes", closes=len(closes)
    )
    quotes = await ask(stage.client, "market_get_quotes", symbols=[SYMBOL, "MSFT", "IBM"])
    expect(len(quotes["quotes"]) == 3, "three quotes answer", quotes=quotes)
    stage.prices = await _fresh_prices(stage.client, quotes["quotes"])
    expect(bool(stage.prices), "something tradable has a fresh price", quotes=quotes)
    return {"instruments": found["instruments"], "bars": bars, "quotes": quotes["quotes"]}


async def compute_features(stage: Stage) -> Facts:
    """Step 3: features of those prices."""
    result = await ask(stage.client, "features_compute", symbol=SYMBOL, features=FEATURES, start="2012-01-01")
    latest = result["latest"]
    for name in ("sma", "ema", "rsi", "macd", "atr", "bbands", "volatility", "zscore"):
        values = [value for key, value in latest.items() if key.startswith(name)]
        expect(
            bool(values) and all(value is not None for value in values), f"{name} has a value", latest=latest
        )
    rsi = next(value for key, value in latest.items() if key.startswith("rsi"))
    expect(0 <= rsi <= 100, "RSI lies between 0 and 100", rsi=rsi)
    return result


async def backtest_strategy(stage: Stage) -> Facts:
    """Step 4: a strategy, checked for look-ahead and backtested; its code runs in the sandbox."""
    need_sandbox(stage)
    saved = await ask(
        stage.client,
        "strategy_save",
        name="demo-trend",
        source=STRATEGY,
        description="20/100-day moving-average crossover",
    )
    check = await ask(stage.client, "strategy_check", strategy_id=saved["strategy_id"], symbol=SYMBOL)
    expect(check["ok"], "the strategy passes its check", problems=check["problems"])
    expect(check["look_ahead"]["violations"] == [], "it does not look ahead", look_ahead=check["look_ahead"])
    run = await _run(stage.client, strategy_id=saved["strategy_id"], commission_bps=1, start="2010-01-01")
    expect(run["state"] in {"done", "completed", "succeeded"}, "the backtest finishes", run=run)
    metrics = run["metrics"]
    expect(metrics["trade_count"] > 0 and metrics["sharpe_ratio"] is not None, "it traded", metrics=metrics)
    equity = await ask(stage.client, "artifact_read", handle=run["handles"]["equity"], limit=1000)
    verified = await ask(stage.client, "backtest_verify", run_id=run["run_id"])
    expect(verified["identical"], "running it again gives the same digest", verified=verified)
    return {"strategy": saved, "check": check, "run": run, "equity": _floats(equity), "verified": verified}


async def remember(stage: Stage) -> Facts:
    """Step 5: the result is remembered, and found again in other words."""
    metrics = stage.facts.get("backtest", {}).get("run", {}).get("metrics")
    text = (
        LESSON.format(
            sharpe=metrics["sharpe_ratio"], drawdown=metrics["max_drawdown"], trades=metrics["trade_count"]
        )
        if metrics
        else "This host lacks a sandbox layer, so the AAPL moving-average strategy could not be backtested."
    )
    written = await ask(stage.client, "memory_write", kind="backtest", text=text, symbols=[SYMBOL])
    found = await ask(stage.client, "memory_search", query=PARAPHRASE, k=5)
    ids = [hit["memory_id"] for hit in found["hits"]]
    texts = [hit["text"] for hit in found["hits"]]
    expect(written["memory_id"] in ids or text in texts, "the paraphrase finds it", ids=ids)
    return {"written": written, "query": PARAPHRASE, "hits": found["hits"]}


async def trade(stage: Stage) -> Facts:
    """Step 6: preview, verdict, submission, fill, portfolio."""
    symbol, price = next(iter(stage.prices.items()))
    quantity = max(1, int(SMALL_USD / price))
    side = await _side(stage.client, symbol, quantity)
    preview = await _preview(stage.client, symbol, side, quantity, "demo: a small order that policy allows")
    expect(
        preview["verdict"]["decision"] == "allow", "policy allows the small order", verdict=preview["verdict"]
    )
    order = await ask(stage.client, "orders_submit", preview_id=preview["preview_id"])
    expect(order["state"] == "filled", "the paper venue fills it", order=order)
    again = await refusal(stage.client, "orders_submit", preview_id=preview["preview_id"])
    portfolio = await ask(stage.client, "portfolio_get")
    held = {row["symbol"]: Decimal(row["quantity"]) for row in portfolio["positions"]}
    expect((held.get(symbol, Decimal(0)) >= quantity) == (side == "buy"), "the portfolio shows it", held=held)
    return {"preview": preview, "order": order, "second_submission": again, "portfolio": portfolio}


async def meet_the_rules(stage: Stage) -> Facts:
    """Step 7: a denial, an approval by a person's signature, and a thief in the sandbox."""
    client = stage.client
    symbol, price = list(stage.prices.items())[-1]
    too_large, large = int(TOO_LARGE_USD / price) + 1, int(LARGE_USD / price) + 1
    denied = await _preview(client, symbol, "buy", too_large, "demo: an order that is far too large")
    rules = [reason["rule"] for reason in denied["verdict"]["reasons"]]
    expect(denied["verdict"]["decision"] == "deny" and "max_notional" in rules, "it is denied", denied=denied)
    denial = await refusal(client, "orders_submit", preview_id=denied["preview_id"])

    side = await _side(client, symbol, large)
    waiting = await _preview(client, symbol, side, large, "demo: an order that a person must approve")
    expect(waiting["verdict"]["decision"] == "needs_approval", "it waits", verdict=waiting["verdict"])
    too_early = await refusal(client, "orders_submit", preview_id=waiting["preview_id"])
    expect(too_early.startswith("approval_required:"), "it may not be submitted yet", error=too_early)
    code, shown = await command(stage.home, "orders", "approve", waiting["preview_id"], "--json")
    expect(code == 0, "the person approves it on the command line", code=code, shown=shown)
    approved = await ask(client, "orders_submit", preview_id=waiting["preview_id"])
    expect(approved["state"] == "filled", "the approved order fills", order=approved)

    facts: Facts = {
        "denied": denied,
        "denial": denial,
        "waiting": waiting,
        "too_early": too_early,
        "approval": json.loads(shown),
        "approved": approved,
    }
    if stage.lacking:
        return facts | {"thief": {"skipped": f"this host lacks {', '.join(stage.lacking)}"}}
    target = str(stage.home.log_key)
    thief = await _run(client, source=THIEF.replace("{target}", target))
    told = json.dumps(thief)
    secret = stage.home.log_key.read_text(encoding="ascii").strip()
    expect(thief["state"] not in {"done", "completed", "succeeded"}, "the thief's run fails", run=thief)
    expect("stolen" not in told and secret not in told, "nothing was read", run=thief)
    return facts | {"thief": {"wanted": target, "run": thief}}


async def verify_the_log(stage: Stage) -> Facts:
    """Step 8: the log verifies; a copy with one flipped byte does not, and the entry is named."""
    seq = int(stage.facts["order"]["order"]["receipt"]["seq"])
    verified = await ask(stage.client, "audit_verify", seq=seq)
    expect(verified["ok"], "the log verifies", verified=verified)
    folder = stage.home.path / "demo" / "audit-export"
    tampered = stage.home.path / "demo" / "audit-tampered"
    for old in (folder, tampered):
        if old.exists():
            shutil.rmtree(old)
    code, shown = await command(stage.home, "audit", "export", str(folder), "--json")
    expect(code == 0, "the log is exported", code=code, shown=shown)
    shutil.copytree(folder, tampered)
    where = flip_byte(tampered, seq)
    code, shown = await command(stage.home, "audit", "verify", str(tampered), "--json")
    report = json.loads(shown)
    named = [problem["seq"] for problem in report["problems"]]
    expect(code == 1 and not report["ok"] and seq in named, "the altered entry is named", report=report)
    code, shown = await command(stage.home, "audit", "verify", str(folder), "--json")
    expect(code == 0 and json.loads(shown)["ok"], "the untouched export still verifies", shown=shown)
    return {"verified": verified, "export": str(folder), "flipped": where, "tampered": report}


STEPS = (
    Step("status", "What is this desk?", look_around),
    Step("prices", "Real daily prices, as known at the replay clock", read_prices),
    Step("features", "Features of those prices", compute_features),
    Step("backtest", "A strategy, checked and backtested in the sandbox", backtest_strategy),
    Step("memory", "The result, remembered and found in other words", remember),
    Step("order", "A governed paper order: preview, verdict, fill", trade),
    Step("rules", "A denial, a person's approval, and a thief in the sandbox", meet_the_rules),
    Step("audit", "The signed log verifies; one flipped byte in a copy is named", verify_the_log),
)


async def _run(client: Client, **arguments: object) -> Facts:
    started = await ask(client, "backtest_start", symbols=[SYMBOL], **arguments)
    with anyio.fail_after(60):
        while True:
            run = await ask(client, "backtest_get", run_id=started["run_id"], wait_s=20)
            if run["state"] not in {"queued", "running", "pending"}:
                return run | {"run_id": started["run_id"]}


async def _fresh_prices(client: Client, quotes: list[Facts]) -> dict[str, Decimal]:
    """Returns the demo's two symbols where their prices are fresh, else what else is tradable and fresh.

    Imported data may have moved the replay clock past the sample's last day.
    """
    fresh = {row["symbol"]: Decimal(row["last"]) for row in quotes[:2] if row["age_s"] <= FRESH_S}
    if fresh:
        return fresh
    listed = await ask(client, "market_search", limit=100)
    tradable = [row["symbol"] for row in listed["instruments"] if row["tradable"]][:20]
    others = await ask(client, "market_get_quotes", symbols=tradable)
    return {row["symbol"]: Decimal(row["last"]) for row in others["quotes"] if row["age_s"] <= FRESH_S}


async def _side(client: Client, symbol: str, quantity: int) -> str:
    """Sells what an earlier demo bought, else buys: so the account never runs dry."""
    portfolio = await ask(client, "portfolio_get")
    held = {row["symbol"]: Decimal(row["quantity"]) for row in portfolio["positions"]}
    return "sell" if held.get(symbol, Decimal(0)) >= quantity else "buy"


async def _preview(client: Client, symbol: str, side: str, quantity: int, reason: str) -> Facts:
    return await ask(
        client, "orders_preview", symbol=symbol, side=side, quantity=str(quantity), reason=reason
    )


def _floats(page: Facts) -> list[float]:
    columns: dict[str, list[Any]] = page["columns"]
    return [float(value) for value in columns["equity"] if value is not None]
