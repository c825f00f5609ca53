"""The heat map of a sweep: what is shown, as a page and as a picture."""

from pathlib import Path

import polars as pl
import pytest

from neural_trader_governance.errors import StorageError
from neural_trader_tools.backtest.sweeps.heatmap import Heat, heatmap_html, write_heatmap

TABLE = pl.DataFrame(
    {
        "fast": [5, 5, 10, 10, 10],
        "slow": [50, 60, 50, 60, 60],
        "kind": ["a", "a", "a", "a", "<b>"],
        "sharpe_ratio": [0.5, -1.0, None, 0.25, 0.75],
    }
)


def test_a_cell_is_the_best_of_all_other_parameters() -> None:
    heat = Heat.of(TABLE, ["fast", "slow", "kind"], "sharpe_ratio")
    assert (heat.down, heat.rows, heat.across, heat.columns) == ("fast", [5, 10], "slow", [50, 60])
    assert heat.cells == {(5, 50): 0.5, (5, 60): -1.0, (10, 60): 0.75}
    assert heat.largest == 1.0
    page = heatmap_html(heat)
    assert page.count("<td") == 4
    assert "<td>-</td>" in page


def test_one_parameter_makes_one_row_and_text_is_escaped() -> None:
    heat = Heat.of(TABLE, ["kind"], "sharpe_ratio")
    assert (heat.rows, heat.columns) == ([None], ["<b>", "a"])
    assert heat.cells == {(None, "a"): 0.5, (None, "<b>"): 0.75}
    assert "<th>&lt;b&gt;</th>" in heatmap_html(heat)


def test_a_picture_is_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written: list[bytes] = []
    for name in ("one.png", "two.PNG"):
        write_heatmap(tmp_path / name, TABLE, ["fast", "slow"], "sharpe_ratio")
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(b"\x89PNG")
    write_heatmap(tmp_path / "heat.html", TABLE, ["fast", "slow"], "sharpe_ratio")
    assert (tmp_path / "heat.html").read_text().startswith("<!doctype html>")
    with pytest.raises(StorageError, match=r"heat\.html could not be written"):
        write_heatmap(tmp_path / "none" / "heat.html", TABLE, ["fast"], "sharpe_ratio")
