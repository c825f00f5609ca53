"""How the demo's steps look in a terminal: a few lines, a table or a sparkline each."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from neural_trader_server.cli.terminal import out

Facts = dict[str, Any]

_BLOCKS = "▁▂▃▄▅▆▇█"


def show(number: int, total: int, title: str, outcome: Facts) -> None:
    """Prints one step: its title, then its scene, or why it failed."""
    mark, colour = ("✓", "green") if outcome["ok"] else ("✗", "red")
    out().print(Text.assemble((f"{mark} {number}/{total} ", f"bold {colour}"), (title, "bold")))
    result = outcome["result"]
    if outcome["ok"]:
        for line in SCENES[outcome["name"]](result):
            out().print(Padding(line, (0, 0, 0, 6)))
    else:
        error = result["error"]
        out().print(Padding(Text(f"{error['code']}: {error['what']}", "red"), (0, 0, 0, 6)))
        out().print(Padding(Text(error["next_step"], "italic"), (0, 0, 0, 6)))
    out().print()


def sparkline(values: Sequence[float], width: int = 72) -> str:
    """Returns the values as block characters, the lowest and highest filling the height."""
    if not values:
        return ""
    step = max(len(values) / width, 1)
    points = [values[int(place * step)] for place in range(min(width, len(values)))]
    points[-1] = values[-1]
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    return "".join(
        _BLOCKS[min(int((point - low) / span * len(_BLOCKS)), len(_BLOCKS) - 1)] for point in points
    )


def _status(facts: Facts) -> list[RenderableType]:
    sandbox, audit = facts["sandbox"], facts["audit"]
    lines: list[RenderableType] = [
        _fact("mode", f"{facts['mode']}, broker {facts['broker']}, market clock at {facts['clock']['now']}"),
        _fact("policy", facts["policy_digest"]),
        _fact("sandbox", f"{sandbox['backend']}: {', '.join(sandbox['layers']) or 'no layer holds'}"),
        _fact("audit", f"{audit['size']} entries, root {audit['root']}"),
        _fact("memory", f"{facts['memory']['backend']}, {facts['memory']['embedder']}"),
    ]
    if sandbox["missing"]:
        lines.insert(3, Text(f"missing here: {', '.join(sandbox['missing'])}", "yellow"))
    return lines


def _prices(facts: Facts) -> list[RenderableType]:
    columns = facts["bars"]["columns"]
    table = _table("quote", "last", "as of", "source")
    for quote in facts["quotes"]:
        table.add_row(quote["symbol"], quote["last"], quote["event_time"], quote["source"])
    closes = columns["close"]
    span = f"{columns['time'][0][:10]} to {columns['time'][-1][:10]}"
    return [
        Text(f"{facts['bars']['symbol']} closes, {span}: {min(closes):.2f} to {max(closes):.2f} USD"),
        Text(sparkline(closes), "cyan"),
        table,
    ]


def _features(facts: Facts) -> list[RenderableType]:
    table = _table("feature", "latest")
    for name, value in facts["latest"].items():
        table.add_row(name, f"{value:.4f}")
    return [table, Text(f"{facts['row_count']} rows behind {facts['handle']}", "dim")]


def _backtest(facts: Facts) -> list[RenderableType]:
    metrics, run = facts["run"]["metrics"], facts["run"]
    table = _table("return", "CAGR", "Sharpe", "max drawdown", "trades", "win rate")
    table.add_row(
        f"{metrics['return_total']:.1%}",
        f"{metrics['cagr']:.1%}",
        f"{metrics['sharpe_ratio']:.2f}",
        f"{metrics['max_drawdown']:.1%}",
        str(metrics["trade_count"]),
        "-" if metrics["win_rate"] is None else f"{metrics['win_rate']:.0%}",
    )
    cuts = facts["check"]["look_ahead"]["checked_cuts"]
    return [
        Text(f"{facts['strategy']['strategy_id']}: no look-ahead in {cuts} cuts; ran in the sandbox"),
        table,
        Text(sparkline(facts["equity"]), "cyan"),
        _fact("digest", f"{run['digest']} (recomputed: identical)"),
    ]


def _memory(facts: Facts) -> list[RenderableType]:
    best = facts["hits"][0]
    return [
        Text(f"asked: {facts['query']}"),
        Text.assemble("found: ", (best["text"], "cyan"), f" (score {best['score']:.2f})"),
    ]


def _order(facts: Facts) -> list[RenderableType]:
    preview, order, portfolio = facts["preview"], facts["order"], facts["portfolio"]
    table = _table("cash", "equity", "exposure", "positions")
    held = ", ".join(f"{row['quantity']} {row['symbol']}" for row in portfolio["positions"]) or "none"
    table.add_row(portfolio["cash"], portfolio["equity"], portfolio["exposure"], held)
    what = f"{preview['side']} {preview['quantity']} {preview['symbol']}"
    return [
        Text(f"{what}, about {preview['estimate']['notional']} USD: {preview['verdict']['decision']}"),
        Text(f"{order['client_order_id']} {order['state']} at {order['average_price']} USD"),
        Text(f"  {order['fills'][0]['rule']}, {order['fills'][0]['event_time']}", "dim"),
        Text(f"the same preview again: {facts['second_submission']}", "dim"),
        table,
    ]


def _rules(facts: Facts) -> list[RenderableType]:
    denied, waiting, approval = facts["denied"], facts["waiting"], facts["approval"]
    lines: list[RenderableType] = [Text.assemble(("denied ", "bold red"), _order_words(denied))]
    lines += [Text(f"  {reason['rule']}: {reason['message']}") for reason in denied["verdict"]["reasons"]]
    lines.append(Text.assemble(("waits ", "bold yellow"), _order_words(waiting)))
    lines += [Text(f"  {reason['rule']}: {reason['message']}") for reason in waiting["verdict"]["reasons"]]
    lines.append(Text(f"  approved on the command line, signed by {approval['approver']}"))
    done = facts["approved"]
    lines.append(Text(f"  {done['client_order_id']} {done['state']} at {done['average_price']} USD"))
    thief = facts["thief"]
    if "skipped" in thief:
        lines.append(Text(f"the thief was not let in at all: {thief['skipped']}", "yellow"))
    else:
        run = thief["run"]
        why = run.get("error") or run.get("detail") or run.get("warnings")
        lines.append(Text.assemble(("stopped ", "bold red"), f"a strategy that reads {thief['wanted']}"))
        lines.append(Text(f"  {run['state']}: {why}"))
    return lines


def _audit(facts: Facts) -> list[RenderableType]:
    first = facts["tampered"]["problems"][0]
    return [
        Text.assemble(
            ("whole ", "bold green"), f"{facts['verified']['size']} entries: {facts['verified']['root']}"
        ),
        Text(f"flipped in a copy: {facts['flipped']}"),
        Text.assemble(("found ", "bold red"), f"entry {first['seq']}: {first['what']}"),
    ]


SCENES: dict[str, Callable[[Facts], list[RenderableType]]] = {
    "status": _status,
    "prices": _prices,
    "features": _features,
    "backtest": _backtest,
    "memory": _memory,
    "order": _order,
    "rules": _rules,
    "audit": _audit,
}


def _order_words(preview: Facts) -> str:
    estimate = preview["estimate"]["notional"]
    return f"{preview['side']} {preview['quantity']} {preview['symbol']}, about {estimate} USD"


def _fact(name: str, value: str) -> Text:
    return Text.assemble((f"{name:<8}", "dim"), value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
