"""A heat map: the objective over two parameters, as one self-contained HTML file or as a PNG."""

import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neural_trader_tools.backtest.report.drawing import COLOURS, drawing
from neural_trader_tools.backtest.report.files import put

CELLS_WRITTEN = 400
"""Cells of a picture up to which each shows its number."""
TICKS = 24


@dataclass(frozen=True, slots=True)
class Heat:
    """The objective on a grid.

    Attributes:
        objective: What is shown.
        across: Parameter from left to right.
        down: Parameter from top to bottom; None where only one varies.
        columns: Values of `across`, ascending.
        rows: Values of `down`, ascending.
        cells: By (row, column); None where it is undefined or was not tried.
        largest: Largest absolute value, for the colours.
    """

    objective: str
    across: str
    down: str | None
    columns: list[Any]
    rows: list[Any]
    cells: dict[tuple[Any, Any], float]
    largest: float

    @classmethod
    def of(cls, table: pl.DataFrame, params: Sequence[str], objective: str) -> "Heat":
        """Reads a sweep's table; over more than two parameters, each cell is the best of the others.

        Args:
            table: Of the sweep's combinations.
            params: Names of parameters; the first two that vary are the axes.
            objective: Column that is shown.
        """
        known = [name for name in params if name in table.columns]
        names = [name for name in known if table[name].n_unique() > 1][:2] or known[:1]
        across, down = names[-1], names[0] if len(names) > 1 else None
        found: dict[tuple[Any, Any], float] = {}
        for row in table.group_by(names).agg(pl.col(objective).max()).rows():
            if row[-1] is not None and math.isfinite(row[-1]):
                found[(row[0] if down else None, row[-2])] = row[-1]
        return cls(
            objective=objective,
            across=across,
            down=down,
            columns=table[across].unique().sort().to_list(),
            rows=table[down].unique().sort().to_list() if down else [None],
            cells=found,
            largest=max(map(abs, found.values()), default=0.0) or 1.0,
        )

    @property
    def title(self) -> str:
        """What is seen, in one line."""
        return f"{self.objective} by {f'{self.down} and ' if self.down else ''}{self.across}"


def write_heatmap(path: Path, table: pl.DataFrame, params: Sequence[str], objective: str) -> None:
    """Writes a sweep's heat map: a picture where the file is called `.png`, else a page.

    Raises:
        HostError: `report_missing`: a picture needs matplotlib, which is not installed.
        StorageError: the file cannot be written.
    """
    heat = Heat.of(table, params, objective)
    put(path, heatmap_png(heat) if path.suffix.lower() == ".png" else heatmap_html(heat).encode())


def heatmap_html(heat: Heat) -> str:
    """Returns the page, redder below 0 and greener above."""
    lines = [f"<tr><th>{html.escape(heat.down or '')} \\ {html.escape(heat.across)}</th>"]
    lines += [f"<th>{html.escape(str(column))}</th>" for column in heat.columns]
    lines.append("</tr>")
    for row in heat.rows:
        lines.append(f"<tr><th>{'' if row is None else html.escape(str(row))}</th>")
        lines += [_cell(heat.cells.get((row, column)), heat.largest) for column in heat.columns]
        lines.append("</tr>")
    title = html.escape(heat.title)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>"
        "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}"
        "td,th{padding:.25em .5em;text-align:right;font-variant-numeric:tabular-nums}</style>"
        f"<h1>{title}</h1><table>{''.join(lines)}</table></html>"
    )


def heatmap_png(heat: Heat) -> bytes:
    """Returns the picture, the same bytes every time.

    Raises:
        HostError: `report_missing`: matplotlib is not installed.
    """
    cells = np.full((len(heat.rows), len(heat.columns)), np.nan)
    for down, row in enumerate(heat.rows):
        for across, column in enumerate(heat.columns):
            cells[down, across] = heat.cells.get((row, column), np.nan)
    size = (min(3.0 + 0.5 * len(heat.columns), 14.0), min(2.0 + 0.32 * len(heat.rows), 12.0))
    with drawing() as figure_of:
        from matplotlib.colors import LinearSegmentedColormap

        figure = figure_of(*size)
        figure.patch.set_facecolor("white")
        axes = figure.subplots()
        shades = [COLOURS["loss"], "#ffffff", COLOURS["gain"]]
        colours = LinearSegmentedColormap.from_list("objective", shades)
        image = axes.imshow(
            cells, cmap=colours, vmin=-heat.largest, vmax=heat.largest, aspect="auto", interpolation="none"
        )
        axes.grid(visible=False)
        across, down = (_ticks(values) for values in (heat.columns, heat.rows))
        axes.set_xticks(across, [_said(heat.columns[place]) for place in across])
        axes.set_yticks(down, [_said(heat.rows[place]) for place in down])
        axes.set(xlabel=heat.across, ylabel=heat.down or "", title=heat.title)
        if cells.size <= CELLS_WRITTEN:
            for (row, column), value in np.ndenumerate(cells):
                text = "-" if math.isnan(value) else f"{value:.2g}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7)
        figure.colorbar(image, ax=axes)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    return drawn.getvalue()


def _ticks(values: Sequence[Any]) -> list[int]:
    return list(range(0, len(values), max(1, -(-len(values) // TICKS))))


def _said(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.encode("ascii", "replace").decode()[:24]  # in letters that the font has


def _cell(value: float | None, largest: float) -> str:
    if value is None:
        return "<td>-</td>"
    strength = min(abs(value) / largest, 1.0)
    hue = 140 if value >= 0 else 0
    return f'<td style="background:hsl({hue} 60% {96 - 40 * strength:.0f}%)">{value:.3g}</td>'
