"""The page: a tear sheet as one HTML file, which fetches nothing and says first how far to trust it.

Every text that a stranger may have chosen (names, symbols, parameters, prints) is escaped, with what cannot
be seen written out; the page forbids itself scripts and the network.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from neural_trader_governance.terms.words import visible
from neural_trader_tools.backtest.get import TRUST, Number
from neural_trader_tools.backtest.report.drawing import MONTHS, draw_svgs
from neural_trader_tools.backtest.report.sheet import Sheet

SURE: Final = 0.95
_FRACTIONS: Final = {
    "return_total", "cagr", "volatility_annual", "max_drawdown", "exposure_time", "win_rate", "expectancy",
}  # fmt: skip
_SHOWN: Final = ("long", "short")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """\
:root{color-scheme:light dark;--ink:#24292f;--muted:#6e7781;--grid:#d8dee4;--line:#0969da;--gain:#1a7f37;
--loss:#cf222e;--page:#fff;--gain-rgb:26,127,55;--loss-rgb:207,34,46}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--muted:#8b949e;--grid:#30363d;--line:#58a6ff;
--gain:#3fb950;--loss:#f85149;--page:#0d1117;--gain-rgb:63,185,80;--loss-rgb:248,81,73}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:62rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.8rem 0 .4rem}
svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem}
th,td{padding:.2rem .55rem;text-align:right;border-bottom:1px solid var(--grid)}
th:first-child,td:first-child{text-align:left}th{font-weight:600}
.trust{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.6rem}
.trust div{border:1px solid var(--grid);border-radius:.4rem;padding:.5rem .7rem}
.trust b{display:block;font-size:1.25rem}.trust small,.muted{color:var(--muted)}
.verdict{font-size:1.1rem;border-left:.3rem solid var(--loss);padding:.2rem .8rem}
.verdict.sure{border-color:var(--gain)}.wide{overflow-x:auto}
.facts{columns:2 20rem;column-gap:2rem}.facts table{width:100%;break-inside:auto}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--grid);padding:.6rem}
.up{background:rgba(var(--gain-rgb),var(--a))}.down{background:rgba(var(--loss-rgb),var(--a))}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
@media print{body{margin:0;max-width:none;font-size:11px}section{break-inside:avoid}
:root{color-scheme:light;--ink:#24292f;--muted:#6e7781;--grid:#d8dee4;--line:#0969da;--gain:#1a7f37;
--loss:#cf222e;--page:#fff;--gain-rgb:26,127,55;--loss-rgb:207,34,46}}
"""


def render_page(sheet: Sheet) -> str:
    """Returns the whole page; equal sheets give equal pages."""
    charts = draw_svgs(sheet)
    record, request = sheet.record, sheet.record.request
    name = _name(request.strategy_id)
    period = f"{_day(int(sheet.times[0]))} to {_day(int(sheet.times[-1]))}"
    title = f"{name} on {_names(request.symbols)}"
    parts = [
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{_safe(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_safe(title)}</h1>",
        f"<p class=muted>{_safe(record.run_id)} · {len(sheet.times):,} bars of {request.interval}, "
        f"{period}</p>",
        _trust(sheet),
        _section("Equity", charts["equity"], charts["drawdown"], charts["rolling"]),
        _section("Monthly returns, %", _months(sheet)),
    ]
    for number, traded in enumerate(sheet.traded):
        parts.append(_section(f"Trades on {traded.symbol}", charts[f"price {number}"]))
    if sheet.left_out:
        parts.append(f"<p class=muted>{sheet.left_out} more symbols are not drawn.</p>")
    parts += [
        _section("Returns of trades", charts.get("returns", "<p>No trade was closed.</p>")),
        _section(f"The {min(sheet.trades.height, 20)} trades that moved the result most", _trades(sheet)),
        _section("All metrics", f"<div class=facts>{_rows(_others(record.metrics or {}))}</div>"),
        _section("Asked for", _settings(sheet)),
    ]
    if record.output:
        parts.append(_section("What it printed last", f"<pre>{_safe(record.output, keep=chr(10))}</pre>"))
    parts.append(_proof(sheet))
    return "\n".join([*parts, "</body></html>\n"])


def headline(sheet: Sheet) -> str:
    """Returns the run in a few lines of plain text, the honest figures first."""
    record, metrics = sheet.record, sheet.record.metrics or {}
    name = _name(record.request.strategy_id)
    lines = [
        f"{visible(name)} on {visible(_names(record.request.symbols))}, {_day(int(sheet.times[0]))} to "
        f"{_day(int(sheet.times[-1]))}   ({record.run_id})",
        verdict(sheet),
        f"deflated Sharpe ratio {_of(metrics, 'deflated_sharpe_ratio')}   probabilistic "
        f"{_of(metrics, 'probabilistic_sharpe_ratio')}   Sharpe "
        f"{_of(metrics, 'sharpe_ratio')} ({_of(metrics, 'sharpe_ci')})   trials "
        f"{metrics.get('trials')}",
        f"return a year {_of(metrics, 'cagr')}   largest drawdown "
        f"{_of(metrics, 'max_drawdown')}   closed trades {metrics.get('trade_count')}",
    ]
    return "\n".join(lines)


def _name(strategy_id: str | None) -> str:
    """Returns a strategy in a title: as many digits of its digest as `StrategyRegistry.get` needs."""
    return f"strategy {strategy_id[:12]}" if strategy_id else "a strategy"


def verdict(sheet: Sheet) -> str:
    """Returns in one sentence how far to trust the run."""
    codes = {warning.partition(":")[0] for warning in sheet.record.warnings}
    deflated, trials = sheet.deflated_now, sheet.trials_now
    if "look_ahead" in codes:
        return "Void: it uses bars that were not there yet."
    if "ruined" in codes:
        return "It lost everything."
    if "no_trades" in codes:
        return "It never traded: there is nothing to judge."
    if deflated is None:
        return "There is too little to judge."
    tries = f"{trials:,} trial{'s' if trials != 1 else ''} on this data"
    percent = min(math.floor(1_000 * deflated) / 10, 99.9)  # never rounded up to certainty
    said = f"{percent:.1f} % sure that this is more than luck, after {tries}"
    return said + (
        "; read the warnings all the same." if deflated >= SURE else ": luck explains it well enough."
    )


def show(name: str, value: Number) -> str:
    """Returns a figure for people, with its unit."""
    if value is None:
        return "-"
    if isinstance(value, tuple | list):
        return " … ".join(f"{end:.2f}" for end in value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    if name in _FRACTIONS:
        return f"{value:.2%}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _of(metrics: Mapping[str, Number], name: str) -> str:
    return show(name, metrics.get(name))


def _trust(sheet: Sheet) -> str:
    record, metrics = sheet.record, sheet.record.metrics or {}
    sure = sheet.deflated_now is not None and sheet.deflated_now >= SURE
    needed = metrics.get("track_record_bars")
    halves = (_of(metrics, f"sharpe_{half}_half") for half in ("first", "second"))
    cards = (
        (
            "Deflated Sharpe ratio",
            show("", sheet.deflated_now),
            f"after {sheet.trials_now:,} trials; sure: 0.95",
        ),
        (
            "Probabilistic",
            _of(metrics, "probabilistic_sharpe_ratio"),
            "that it exceeds 0, if it was one trial",
        ),
        ("Sharpe ratio", _of(metrics, "sharpe_ratio"), f"a year; 95 %: {_of(metrics, 'sharpe_ci')}"),
        ("By luck alone", _of(metrics, "sharpe_by_luck"), "Sharpe ratio of the best of the trials"),
        (
            "Bars needed",
            "no end" if needed is None else f"{needed:,.0f}",
            f"to be sure; there are {len(sheet.times):,}",
        ),
        ("Each half", ", ".join(halves), "Sharpe ratios a year"),
        ("Costs it could bear", f"{_of(metrics, 'break_even_cost_bps')} bps", "more, on all it traded"),
        ("Return a year", _of(metrics, "cagr"), f"drawdown {_of(metrics, 'max_drawdown')}"),
    )
    boxes = "".join(
        f"<div>{label}<b>{_safe(value)}</b><small>{_safe(note)}</small></div>" for label, value, note in cards
    )
    later = ""
    if sheet.trials_now != metrics.get("trials"):
        later = (
            f"<p class=muted>When it ran there were {_of(metrics, 'trials')} trials, and the deflated "
            f"Sharpe ratio was {_of(metrics, 'deflated_sharpe_ratio')}.</p>"
        )
    warnings = "".join(
        f"<li><b>{_safe(code)}</b>:{_safe(text)}</li>"
        for code, _, text in (warning.partition(":") for warning in record.warnings)
    )
    warned = f"<ul>{warnings}</ul>" if warnings else "<p>No warning.</p>"
    return (
        f'<p class="verdict{" sure" if sure else ""}">{_safe(verdict(sheet))}</p>'
        f"<section><h2>How far to trust it</h2><div class=trust>{boxes}</div>{later}{warned}</section>"
    )


def _months(sheet: Sheet) -> str:
    most = max((abs(value) for value in sheet.months.values() if math.isfinite(value)), default=0.0) or 1.0
    head = "".join(f"<th>{name}</th>" for name in ("", *MONTHS, "year"))
    rows: list[str] = []
    for year in sorted(sheet.years):
        cells = [sheet.months.get((year, month)) for month in range(1, 13)]
        shown = "".join(_cell(value, most) for value in cells)
        rows.append(f"<tr><th>{year}</th>{shown}<td><b>{_percent(sheet.years[year])}</b></td></tr>")
    return f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _cell(value: float | None, most: float) -> str:
    if value is None or not math.isfinite(value):
        return "<td></td>"
    strength = 0.08 + 0.62 * min(abs(value) / most, 1.0) if value else 0.0
    return f'<td class={"up" if value >= 0 else "down"} style="--a:{strength:.2f}">{_percent(value)}</td>'


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "-"


def _trades(sheet: Sheet) -> str:
    if not sheet.trades.height:
        return "<p>There is no trade.</p>"
    names = ("symbol", "side", "entry", "exit", "units", "bought or sold at", "left at", "pnl", "return, %")
    rows: list[str] = []
    for trade in sheet.top_trades.iter_rows(named=True):
        left = trade["exit_price"]
        cells = (
            _safe(trade["symbol"]),
            trade["side"] if trade["side"] in _SHOWN else "",
            _moment(trade["entry_time"]),
            _moment(trade["exit_time"]),
            f"{trade['quantity']:,.4g}",
            f"{trade['entry_price']:,.4f}",
            "-" if left is None else f"{left:,.4f}",
            f"{trade['pnl']:,.2f}",
            _percent(trade["return"]),
        )
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in names)
    note = f"<p class=muted>Of {sheet.trades.height:,}; artifact_read has them all.</p>"
    return f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>{note}"


def _others(metrics: Mapping[str, Number]) -> dict[str, str]:
    return {name.replace("_", " "): show(name, metrics[name]) for name in metrics if name not in TRUST}


def _settings(sheet: Sheet) -> str:
    request = sheet.record.request
    said: dict[str, str] = {
        "symbols": _names(request.symbols, 20),
        "interval": request.interval,
        "from, until": f"{_moment(request.start)}, {_moment(request.end)}",
        "seed": str(request.seed),
    }
    said |= {name: json.dumps(value, ensure_ascii=False)[:200] for name, value in request.params.items()}
    said |= {name.replace("_", " "): str(value) for name, value in request.settings.for_digest().items()}
    return _rows(said)


def _rows(said: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{_safe(name)}</td><td>{_safe(value)}</td></tr>" for name, value in said.items())
    return f"<table>{rows}</table>"


def _proof(sheet: Sheet) -> str:
    record = sheet.record
    said = (
        f"digest  {record.digest}\nengine  {record.engine}\nprices  as known at {_moment(record.as_of)}\n"
        f"\nneural-trader backtest verify {record.run_id}"
    )
    note = "It runs the strategy again, on the same prices, and compares the digests."
    return _section("Verify it", f"<pre>{_safe(said, keep=chr(10))}</pre><p class=muted>{note}</p>")


def _section(title: str, *contents: str) -> str:
    return f"<section><h2>{_safe(title)}</h2>{''.join(contents)}</section>"


def _names(symbols: Sequence[str], most: int = 6) -> str:
    more = f" and {len(symbols) - most:,} more" if len(symbols) > most else ""
    return ", ".join(symbols[:most]) + more


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, tz=UTC):%Y-%m-%d}"


def _moment(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    return f"{moment:%Y-%m-%d}" if moment.time() == moment.min.time() else f"{moment:%Y-%m-%d %H:%M}"


def _safe(text: object, keep: str = "") -> str:
    return html.escape(visible(str(text), keep=keep))
