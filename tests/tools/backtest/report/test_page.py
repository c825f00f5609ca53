"""The page and the image: self-contained, the same every time, safe from what strangers write, and small."""

import re
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from neural_trader_governance.errors import HostError, StorageError
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.report import files
from neural_trader_tools.backtest.report.drawing import draw_png, require_matplotlib
from neural_trader_tools.backtest.report.page import headline, render_page, show
from neural_trader_tools.backtest.report.sheet import Sheet

EVIL = '<script>alert("1")</script>&$\\frac$\u202e'


class Reader(HTMLParser):
    """Collects the tags of a page and what they would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data", "action"} and not (value or "").startswith("#"):
                self.fetched.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.fetched.append(f"{tag} {name}")


@pytest.fixture(scope="module")
def page(sheet_of: Callable[..., Sheet], msft: Prices) -> str:
    return render_page(sheet_of(msft))


def test_the_page_leads_with_how_far_to_trust_it(
    page: str, sheet_of: Callable[..., Sheet], msft: Prices
) -> None:
    sheet = sheet_of(msft)
    order = [
        "sure that this is more than luck", "Deflated Sharpe ratio", "Equity", "Monthly returns",
        "Trades on MSFT", "Returns of trades", "moved the result most", "All metrics", "Verify it",
    ]  # fmt: skip
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert show("", sheet.deflated_now) in page[: places[2]]
    assert f"neural-trader backtest verify {sheet.record.run_id}" in page
    assert "ab" * 32 in page
    assert page.count("<svg") == 5


def test_the_page_fetches_nothing_and_runs_nothing(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.fetched == []
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|url\((?!#)|@import", page)
    for chart in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(chart)  # noqa: S314  # our own
        assert not re.search(r"#[0-9a-f]{6}\b", chart), "a colour that a dark page cannot change"


def test_equal_runs_give_equal_bytes(page: str, sheet_of: Callable[..., Sheet], msft: Prices) -> None:
    again = sheet_of(msft)
    assert render_page(again) == page
    image = draw_png(again, headline(again))
    assert image == draw_png(sheet_of(msft), headline(again))
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", image[16:24])
    assert width >= 900
    assert height >= 1_000


def test_what_a_stranger_writes_is_text(sheet_of: Callable[..., Sheet], msft: Prices) -> None:
    named = Prices(
        EVIL, *(getattr(msft, name) for name in ("times", "open", "high", "low", "close", "volume"))
    )
    sheet = sheet_of(
        named,
        request={"strategy_id": EVIL, "params": {EVIL: EVIL}},
        output=f"{EVIL}\nline two",
        warnings=(f"few_trades: {EVIL}",),
    )
    page = render_page(sheet)
    reader = Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert page.count("&lt;script&gt;") >= 6
    assert "\u202e" not in page
    assert "$\\frac$" in page
    assert draw_png(sheet, headline(sheet))[:4] == b"\x89PNG"


def test_a_run_without_trades_or_prices_still_has_a_page(
    sheet_of: Callable[..., Sheet], msft: Prices
) -> None:
    few = sheet_of(msft.head(45), warnings=("no_trades: the strategy never traded, the ratios say nothing.",))
    page = render_page(few)
    assert "It never traded" in page
    assert render_page(replace(few, hold=np.empty(0), traded=[])).count("<svg") == 3
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower().split()


def test_certainty_is_never_rounded_up(sheet_of: Callable[..., Sheet], msft: Prices) -> None:
    times = msft.times[:300]
    rising = 100.0 * 1.003 ** np.arange(300) * (1 + 0.001 * np.sin(np.arange(300)))
    volume = np.ones(300)
    sheet = sheet_of(Prices("UP", times, rising, rising, rising, rising, volume), fast=2, slow=5)
    assert sheet.deflated_now is not None
    assert sheet.deflated_now > 0.9999
    assert "99.9 % sure" in render_page(sheet)


def test_a_million_bars_make_a_small_page_quickly(sheet_of: Callable[..., Sheet]) -> None:
    draws = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(draws.normal(0.0, 1e-3, 1_000_000)))
    times = np.arange(1_000_000, dtype=np.int64) * 60_000_000 + 10**15
    bars = Prices("LONG", times, close, close, close, close, np.ones(1_000_000))
    sheet = sheet_of(bars, request={"interval": "1m"})
    assert sheet.trades.height > 10_000
    started = time.process_time()
    page = render_page(sheet)
    assert len(page) < 1_500_000
    assert time.process_time() - started < 30.0  # 3 s on an idle machine


def test_without_matplotlib_the_reader_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HostError) as caught:
        require_matplotlib()
    assert caught.value.code == "report_missing"
    assert "neural-trader[report]" in caught.value.next_step


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"sheet\.html could not be written"):
        files.put(tmp_path / "no folder" / "sheet.html", b"")
