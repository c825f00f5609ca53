"""The two tools with a market of their own, beside the memory's folder: empty unless a test fills it."""

from pathlib import Path
from typing import Any, cast

from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_memory.memory import Memory
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.memory import search, write


def archive_of(memory: Memory) -> Archive:
    folder = Path(memory._table.uri).parent / "archive"  # pyright: ignore[reportPrivateUsage] - where the test works
    folder.mkdir(exist_ok=True)
    return Archive(folder)


async def memory_write(memory: Memory, store: Store, caller: Caller, **fields: Any) -> write.MemoryWritten:
    archive = archive_of(memory)
    return await write.memory_write(memory, archive, ReplayClock(archive), store, caller, **fields)


async def memory_search(
    memory: Memory,
    caller: Caller,
    store: Store | None = None,
    backtests: Backtests | None = None,
    **fields: Any,
) -> search.MemoriesFound:
    """Searches as a person does at the command line, unless the test collects what an agent is shown."""
    archive = archive_of(memory)
    log, runs = cast("Store", store), cast("Backtests", backtests)
    clock = memory._clock  # pyright: ignore[reportPrivateUsage] - the test's
    return await search.memory_search(
        memory, archive, ReplayClock(archive), clock, log, runs, caller, **fields
    )
