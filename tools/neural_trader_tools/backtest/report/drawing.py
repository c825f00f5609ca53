"""Drawing: the sheet's charts by matplotlib, as SVG for a page and as one PNG; the same bytes every time.

matplotlib is the extra `report`. Its state is global, so that one sheet is drawn at a time. Colours are drawn
as those of a light page; in an SVG each becomes a variable of the page, so that a dark one has its own.
"""

import importlib
import io
import math
import re
import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_governance.errors import HostError
from neural_trader_tools.backtest.report.sheet import Sheet, Traded
from neural_trader_tools.backtest.report.thinning import COLUMNS, spread_out, thin

Floats = NDArray[np.float64]
COLOURS: Final = {
    "ink": "#24292f",
    "muted": "#6e7781",
    "grid": "#d8dee4",
    "line": "#0969da",
    "gain": "#1a7f37",
    "loss": "#cf222e",
}
"""By their names in the page's style, light."""
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WIDE, _LOW, _HIGH = 9.0, 1.7, 2.6
_YEARS_DRAWN = 40
_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neural-trader",
    "text.parse_math": False,  # a symbol may hold a dollar sign
    "axes.unicode_minus": False,
    "path.simplify": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.facecolor": "none",
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}
_one_at_a_time = threading.Lock()


def require_matplotlib() -> None:
    """Checks that charts can be drawn.

    Raises:
        HostError: `report_missing`: matplotlib is not installed.
    """
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        raise HostError(
            "report_missing",
            "charts need matplotlib, which is not installed",
            "pip install 'neural-trader[report]'",
        ) from None


def draw_svgs(sheet: Sheet) -> dict[str, str]:
    """Returns the charts by name, each as one `<svg>` element to stand in a page."""
    charts: dict[str, tuple[float, Callable[[Any], None]]] = {
        "equity": (_HIGH, lambda axes: _equity(axes, sheet)),
        "drawdown": (_LOW, lambda axes: _drawdown(axes, sheet)),
        "rolling": (_LOW, lambda axes: _rolling(axes, sheet)),
    }
    for number, traded in enumerate(sheet.traded):
        charts[f"price {number}"] = (_HIGH, lambda axes, traded=traded: _price(axes, traded))
    if len(sheet.returns):
        charts["returns"] = (_LOW, lambda axes: _returns(axes, sheet.returns))
    with drawing() as figure_of:
        found: dict[str, str] = {}
        for name, (height, draw) in charts.items():
            figure = figure_of(_WIDE, height)
            draw(figure.add_subplot())
            found[name] = _svg(figure)
        return found


def draw_png(sheet: Sheet, headline: str) -> bytes:
    """Returns all charts on one white page, beneath a few lines of text."""
    with drawing() as figure_of:
        prices = [traded for traded in sheet.traded if traded.trades.height][:1]
        heights = [_HIGH, _LOW, _LOW, *([_HIGH] if prices else []), 2.2]
        lines = headline.count("\n") + 1
        head = 0.2 * lines + 0.2
        figure = figure_of(_WIDE, sum(heights) + head)
        figure.patch.set_facecolor("white")
        grid = figure.add_gridspec(len(heights) + 1, 2, height_ratios=[head, *heights])
        title = figure.add_subplot(grid[0, :])
        title.axis("off")
        title.text(0.0, 1.0, _plain(headline), va="top", transform=title.transAxes)
        _equity(figure.add_subplot(grid[1, :]), sheet)
        _drawdown(figure.add_subplot(grid[2, :]), sheet)
        _rolling(figure.add_subplot(grid[3, :]), sheet)
        if prices:
            axes = figure.add_subplot(grid[4, :])
            _price(axes, prices[0])
            axes.set_title(f"Trades on {_plain(prices[0].symbol)}")
        _heat(figure.add_subplot(grid[len(heights), 0]), sheet)
        last = figure.add_subplot(grid[len(heights), 1])
        if len(sheet.returns):
            _returns(last, sheet.returns)
        else:
            last.axis("off")
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
        return drawn.getvalue()


def draw_line(title: str, times: NDArray[np.int64], values: Floats) -> bytes:
    """Returns a PNG of one line over time (microseconds), on white."""
    with drawing() as figure_of:
        figure = figure_of(_WIDE, _HIGH + 0.8)
        figure.patch.set_facecolor("white")
        axes = figure.add_subplot()
        _curve(axes, times, values, COLOURS["line"], "")
        axes.set_title(_plain(title))
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
        return drawn.getvalue()


class drawing:  # noqa: N801  # reads as a statement
    """Holds matplotlib's global style while a sheet is drawn; gives what makes a figure."""

    def __enter__(self) -> Callable[[float, float], Any]:
        require_matplotlib()
        _one_at_a_time.acquire()
        library: Any = importlib.import_module("matplotlib")
        self._style: Any = library.rc_context({**library.rcParamsDefault, **_STYLE, "backend": "agg"})
        self._style.__enter__()

        def figure_of(width: float, height: float) -> Any:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
            FigureCanvasAgg(figure)
            return figure

        return figure_of

    def __exit__(self, *raised: object) -> None:
        self._style.__exit__(*raised)
        _one_at_a_time.release()


def _equity(axes: Any, sheet: Sheet) -> None:
    _curve(axes, sheet.times, sheet.equity, COLOURS["line"], "strategy")
    if len(sheet.hold):
        _curve(axes, sheet.times, sheet.hold, COLOURS["muted"], "bought and held, without costs")
        axes.legend(loc="upper left")
    axes.set_title("Equity")
    axes.yaxis.set_major_formatter(_money)


def _money(value: float, _: int | None = None) -> str:
    return f"{value:,.0f}"


def _drawdown(axes: Any, sheet: Sheet) -> None:
    rows = thin(sheet.drawdown)
    axes.fill_between(_moments(sheet.times[rows]), 100.0 * sheet.drawdown[rows], 0.0,
                      color=COLOURS["loss"], alpha=0.45, linewidth=0)  # fmt: skip
    axes.set_title("Drawdown, %")
    _from_to(axes, sheet.times)


def _rolling(axes: Any, sheet: Sheet) -> None:
    _curve(axes, sheet.times, sheet.rolling, COLOURS["line"], "")
    axes.axhline(0.0, color=COLOURS["muted"], linewidth=0.8)
    axes.set_title(f"Sharpe ratio a year of the last {sheet.window:,} bars")


def _price(axes: Any, traded: Traded) -> None:
    _curve(axes, traded.times, traded.close, COLOURS["muted"], "")
    longs = traded.trades["side"].to_numpy() == "long"
    for kind, marker, colour in (
        ("entry", "^", COLOURS["gain"]),
        ("exit", "v", COLOURS["loss"]),
    ):
        known = traded.trades[f"{kind}_time"].is_not_null().to_numpy()
        when = traded.trades[f"{kind}_time"].to_physical().fill_null(0).to_numpy()
        price = traded.trades[f"{kind}_price"].to_numpy()
        for side in (True, False):
            chosen = np.flatnonzero(known & (longs == side))
            if not len(chosen):
                continue
            chosen = chosen[np.argsort(when[chosen], kind="stable")]
            bars = np.searchsorted(traded.times, when[chosen])
            chosen = chosen[spread_out(bars, len(traded.times), COLUMNS // 3)]
            axes.plot(
                _moments(when[chosen]), price[chosen], linestyle="none", marker=marker, markersize=4.5,
                color=colour if side else "none", markeredgecolor=colour,
                label=f"{kind} of a {'long' if side else 'short'} trade",
            )  # fmt: skip
    if traded.trades.height:
        axes.legend(loc="upper left", ncols=2)


def _returns(axes: Any, returns: Floats) -> None:
    percent: Floats = 100.0 * returns[np.isfinite(returns)]
    outer = 0.005 if len(percent) > 200 else 0.0
    low, high = float(np.quantile(percent, outer)), float(np.quantile(percent, 1.0 - outer))
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = (high - low) / 40
    first, last = math.floor(low / step), math.ceil(high / step)
    edges: Floats = step * np.arange(first, last + 1, dtype=np.float64)  # zero is an edge
    counts = np.histogram(np.clip(percent, edges[0], edges[-1]), bins=edges)[0]
    colours = [COLOURS["gain"] if edge >= -1e-12 else COLOURS["loss"] for edge in edges[:-1]]
    axes.bar(edges[:-1], counts, width=0.92 * step, align="edge", color=colours, alpha=0.75)
    axes.axvline(float(percent.mean()), color=COLOURS["ink"], linewidth=0.9, linestyle="--")
    axes.set_title(f"Returns of {len(percent):,} closed trades, %; dashed: their mean")


def _heat(axes: Any, sheet: Sheet) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    years = sorted(sheet.years)[-_YEARS_DRAWN:]
    cells = np.full((len(years), 12), np.nan)
    for (year, month), value in sheet.months.items():
        if year in years:
            cells[years.index(year), month - 1] = value
    most = float(np.nanmax(np.abs(cells))) if np.isfinite(cells).any() else 1.0
    colours = LinearSegmentedColormap.from_list("returns", [COLOURS["loss"], "#ffffff", COLOURS["gain"]])
    axes.imshow(
        cells, cmap=colours, vmin=-most or -1.0, vmax=most or 1.0, aspect="auto", interpolation="none"
    )
    axes.grid(visible=False)
    axes.set_xticks(range(12), [name[0] for name in MONTHS])
    few = range(0, len(years), max(1, len(years) // 12))
    axes.set_yticks(list(few), [str(years[row]) for row in few])
    axes.set_title(f"Monthly returns, up to {100 * most:.1f} %")


def _curve(axes: Any, times: NDArray[np.int64], values: Floats, colour: str, label: str) -> None:
    rows = thin(values)
    axes.plot(_moments(times[rows]), values[rows], color=colour, label=label)
    _from_to(axes, times)


def _from_to(axes: Any, times: NDArray[np.int64]) -> None:
    """Lays every chart over the whole run, so that they can be read one below the other."""
    margin = max(int(times[-1] - times[0]) // 100, 1)
    axes.set_xlim(*_moments(np.array([times[0] - margin, times[-1] + margin])))


def _plain(text: str) -> str:
    """Returns a text in letters that the font has; a stranger's may be any."""
    return text.replace(" … ", " to ").encode("ascii", "replace").decode()


def _moments(times: NDArray[np.int64]) -> Any:
    return pl.Series(times).cast(pl.Datetime("us")).to_numpy()


def _svg(figure: Any) -> str:
    drawn = io.StringIO()
    figure.savefig(
        drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="([^"]*)"', text)
    text = re.sub(r"<svg[^>]*>", f'<svg viewBox="{box[1] if box else ""}" role="img">', text, count=1)
    text = text.replace("xlink:href", "href")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r' d="([^"]*)"', lambda path: f' d="{_tenths(path[1])}"', text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _tenths(path: str) -> str:
    """Returns a path in tenths of a point: a screen shows no more, and a page is a third as large."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), path)
    return re.sub(r"\s*([MLQCz])\s*", r"\1", short)
