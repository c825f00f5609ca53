"""A heat map: the objective over two parameters, as one self-contained HTML file."""

import html
import math
from collections.abc import Sequence

import polars as pl


def heatmap_html(table: pl.DataFrame, params: Sequence[str], objective: str) -> str:
    """Returns the page; over more than two parameters, each cell is the best of the others.

    Args:
        table: Of the sweep's combinations.
        params: Names of parameters; the first two that vary are the axes.
        objective: Column that is shown, redder below 0 and greener above.
    """
    names = [name for name in params if name in table.columns and table[name].n_unique() > 1][:2]
    if not names:
        names = [name for name in params if name in table.columns][:1]
    across = names[-1] if names else objective
    down = names[0] if len(names) > 1 else None
    keys = [down, across] if down else [across]
    cells = {tuple(row[:-1]): row[-1] for row in table.group_by(keys).agg(pl.col(objective).max()).rows()}
    columns = sorted({key[-1] for key in cells})
    rows = sorted({key[0] for key in cells}) if down else [None]
    known = [abs(value) for value in cells.values() if value is not None and math.isfinite(value)]
    largest = max(known, default=0.0) or 1.0
    lines = [f"<tr><th>{html.escape(down or '')} \\ {html.escape(across)}</th>"]
    lines += [f"<th>{html.escape(str(column))}</th>" for column in columns]
    lines.append("</tr>")
    for row in rows:
        lines.append(f"<tr><th>{'' if row is None else html.escape(str(row))}</th>")
        for column in columns:
            value = cells.get((row, column) if down else (column,))
            lines.append(_cell(value, largest))
        lines.append("</tr>")
    title = f"{html.escape(objective)} by {html.escape(' and '.join(names))}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>"
        "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.25em .5em;text-align:right;font-variant-numeric:tabular-nums}</style>"
        f"<h1>{title}</h1><table>{''.join(lines)}</table></html>"
    )


def _cell(value: float | None, largest: float) -> str:
    if value is None or not math.isfinite(value):
        return "<td>-</td>"
    strength = min(abs(value) / largest, 1.0)
    hue = 140 if value >= 0 else 0
    return f'<td style="background:hsl({hue} 60% {96 - 40 * strength:.0f}%)">{value:.3g}</td>'
