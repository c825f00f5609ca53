from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from tests.tools.memory.calls import archive_of, memory_search, memory_write

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, format_time
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_memory.memory import Memory
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.memory.regimes import regime_at

pytestmark = pytest.mark.anyio

FIRST = datetime(2010, 1, 4, 14, 30, tzinfo=UTC)


def fill(archive: Archive, symbol: str, closes: list[float], first: int = 0) -> None:
    """A bar a day from `FIRST` on, known six hours after its open."""
    opens = [FIRST + timedelta(days=first + each) for each in range(len(closes))]
    rows = {
        "event_time": opens,
        "known_time": [each + timedelta(hours=6) for each in opens],
        "open": closes,
        "high": [each * 1.01 for each in closes],
        "low": [each * 0.99 for each in closes],
        "close": closes,
        "volume": [1e6 + 1e4 * (each % 13) for each in range(len(closes))],
    }
    dataset = DataSet(
        dataset_id="test",
        source="a test",
        licence="none",
        imported_at=datetime(2011, 12, 1, tzinfo=UTC),
        file_digest="",
        known_time_assumed=False,
        rows_read=len(closes),
        rows_added=0,
    )
    bars = pl.DataFrame(rows, schema=frames.BAR_SCHEMA)
    instrument = Instrument(symbol=symbol, name=symbol, asset_class="equity")
    archive.write([Batch(instrument, "1d", bars, dataset, frames.empty(frames.ACTION_SCHEMA))])


def calm_then_wild() -> list[float]:
    chance = np.random.default_rng(1)
    returns = np.concatenate([chance.normal(0.001, 0.004, 400), chance.normal(-0.004, 0.03, 300)])
    return (50 * np.exp(np.cumsum(returns))).tolist()


async def test_a_decision_is_found_again_in_a_market_like_its_own(
    memory: Memory, store: Store, caller: Caller
) -> None:
    archive = archive_of(memory)
    closes = calm_then_wild()
    fill(archive, "AAPL", closes)

    async def decide(text: str, day: int) -> str:
        at = format_time(FIRST + timedelta(days=day, hours=7))
        fields = {"kind": "decision", "text": text, "symbols": ["AAPL"], "event_time": at}
        return (await memory_write(memory, store, caller, **fields)).memory_id

    calm = await decide("Bought on day one hundred.", 380)
    wild = await decide("Bought on day two hundred.", 650)
    note = (
        await memory_write(memory, store, caller, kind="note", text="A note.", symbols=["AAPL"])
    ).memory_id
    assert (await memory.get(note, agent="alice")).regime is None

    async def first(as_of: int) -> str:
        found = await memory_search(
            memory,
            caller,
            query="Bought",
            regime_of="AAPL",
            as_of=None if as_of > 700 else format_time(FIRST + timedelta(days=as_of, hours=7)),
        )
        return found.hits[0].memory_id if found.hits else ""

    assert await first(999) == wild
    kept = (await memory.get(calm, agent="alice")).regime
    again = await regime_at(archive, ReplayClock(archive), "AAPL", FIRST + timedelta(days=380, hours=7))
    assert kept == pytest.approx(again, rel=1e-6)
    found = await memory.search("Bought", agent="alice", regime=again)
    assert found[0].memory_id == calm


async def test_bars_of_the_future_move_no_regime_and_the_replay_clock_caps_it(
    memory: Memory, clock: SimulatedClock
) -> None:
    archive = archive_of(memory)
    closes = calm_then_wild()
    fill(archive, "AAPL", closes[:500])
    moment = FIRST + timedelta(days=450)
    replay = ReplayClock(archive)
    before = await regime_at(archive, replay, "AAPL", moment)
    fill(archive, "AAPL", closes[500:], first=500)
    assert await regime_at(archive, replay, "AAPL", moment) == before
    assert await regime_at(archive, replay, "AAPL", None) != before
    replay.set(moment)
    assert await regime_at(archive, replay, "AAPL", None) == before
    assert await regime_at(archive, replay, "AAPL", clock.now()) == before


async def test_a_symbol_without_a_year_of_prices_has_no_regime_and_can_be_remembered(
    memory: Memory, store: Store, caller: Caller
) -> None:
    fill(archive_of(memory), "NEW", [10.0, 11.0, 12.0])
    for symbol in ("NEW", "NONE"):
        fields = {"kind": "decision", "text": f"Bought {symbol}.", "symbols": [symbol]}
        written = await memory_write(memory, store, caller, **fields)
        assert (await memory.get(written.memory_id, agent="alice")).regime is None
    with pytest.raises(InputError, match="no_regime"):
        await memory_search(memory, caller, query="Bought", regime_of="NEW")
    with pytest.raises(DataError):
        await memory_search(memory, caller, query="Bought", regime_of="NONE")
