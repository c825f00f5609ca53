"""`neural-trader data similar`: when a market looked as it does now, and what came next."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import anyio.from_thread
import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, out, progress_bar, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services


class By(StrEnum):
    """The words of `features.similar.By`, which `--help` shows without importing them."""

    REGIME = "regime"
    SHAPE = "shape"
    DTW = "dtw"


def similar(
    symbol: Annotated[str, typer.Argument(help="Whose newest window is looked for, such as AAPL.")],
    interval: Annotated[str, typer.Option(help="Bar length.")] = "1d",
    window: Annotated[int, typer.Option(help="Bars of a window, 4 to 2000.")] = 60,
    by: Annotated[
        By,
        typer.Option(
            help="shape: the way of the closes; dtw: the same, let lag a little;"
            " regime: volatility, trend and returns at the window's last bar."
        ),
    ] = By.SHAPE,
    as_of: Annotated[str, typer.Option(help="What was known then; everything where it is left out.")] = "",
    top: Annotated[int, typer.Option(help="How many windows, 1 to 100.")] = 10,
    horizon: Annotated[
        list[int] | None, typer.Option(help="Bars after a window that are looked at; again for more. [5, 20]")
    ] = None,
    among: Annotated[list[str] | None, typer.Option(help="Search this symbol too; again for more.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Search every symbol of the archive.")] = False,
    apart: Annotated[
        int | None, typer.Option(help="Bars between the starts of two windows; --window by default.")
    ] = None,
    band: Annotated[
        int | None, typer.Option(help="dtw: bars one window may lag; a tenth of it by default.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Find the windows most like the newest one, and what followed them beside what usually follows.

    Example: neural-trader data similar AAPL --window 60 --by dtw --as-of 2012-01-03
    """
    from neural_trader_tools.telling import tell

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.market.windows import read_window

        known = read_window(None, None, as_of or None, services.replay.horizon()).as_of

        def told(fraction: float) -> None:
            anyio.from_thread.run(tell, fraction)

        def search() -> dict[str, Any]:
            from neural_trader_tools.features.similar import find_similar

            return find_similar(
                services.archive,
                symbol,
                interval=interval,
                by=by.value,
                window=window,
                top=top,
                horizons=tuple(dict.fromkeys(horizon or (5, 20))),
                among=among or (),
                everything=everything,
                as_of=known,
                apart=apart,
                band=band,
                told=told,
            ).model_dump(mode="json")

        return await anyio.to_thread.run_sync(search)

    with progress_bar(f"searching windows like {symbol}'s", quiet=json_output):
        found = with_desk(run)
    if json_output:
        emit(found)
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    horizons = [one["horizon_bars"] for one in found["outlooks"]]
    lag = "" if found["band_bars"] is None else f", lag at most {found['band_bars']} bars"
    searched = "" if found["searched"] == 1 else f" of {found['searched']} symbols"
    show_table(
        f"{found['symbol']} {found['interval']}, the {found['window_bars']} bars {' to '.join(_days(found))},"
        f" by {found['by']}{lag}: the nearest of {found['windows']:,} windows{searched}",
        ("symbol", "first", "last", "distance", *(f"{each} bars later" for each in horizons)),
        (
            (one["symbol"], *_days(one), f"{one['distance']:.3f}", *map(_percent, one["returns"]))
            for one in found["matches"]
        ),
    )
    show_table(
        "What followed, beside what usually follows",
        ("bars", "known", "apart", "mean", "lowest", "highest", "up", "usual mean", "usually up", "errors"),
        (
            (
                one["horizon_bars"],
                one["count"],
                one["independent"],
                *(_percent(one[name]) for name in ("mean", "lowest", "highest")),
                _percent(one["share_up"], 0),
                _percent(one["usual_mean"]),
                _percent(one["usual_share_up"], 0),
                None if one["standard_errors"] is None else f"{one['standard_errors']:+.1f}",
            )
            for one in found["outlooks"]
        ),
    )
    if found["left_out"]:
        out().print(f"{found['left_out']:,} windows were left out: they lie across holes, or never moved.")
    for note in found["notes"]:
        out().print(note, soft_wrap=True, markup=False)


def _days(row: dict[str, Any]) -> tuple[str, str]:
    """First and last open, to the minute."""
    first, last = (row[name].removesuffix("Z").replace("T", " ") for name in ("first", "last"))
    return first[:16], last[:16]


def _percent(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else f"{100 * value:{'+' if digits else ''}.{digits}f}%"
