"""The tool `strategy_save`."""

from typing import Annotated

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_tools.strategies.registry import StrategyRegistry


class StrategySaved(BaseModel):
    """A saved strategy."""

    strategy_id: str = Field(description="SHA-256 of the source")
    name: str
    version: int = Field(description="Counts the sources saved under this name, from 1")


async def strategy_save(
    registry: StrategyRegistry,
    store: Store,
    caller: Caller,
    *,
    name: Annotated[str, Field(description="Name; the same name again makes a new version")],
    source: Annotated[str, Field(description="The whole Python file")],
    description: Annotated[str | None, Field(description="What it does, in words")] = None,
) -> StrategySaved:
    """Saves a strategy's source under the digest of its content, without running it."""
    saved = await anyio.to_thread.run_sync(registry.save, name, source, description or "")
    payload = {"strategy_id": saved.strategy_id, "name": saved.name, "version": saved.version}

    def record() -> None:
        with store.unit() as unit:
            unit.append(AuditEntry.by(caller, EntryType.STRATEGY_SAVE, payload=payload))

    await anyio.to_thread.run_sync(record)
    return StrategySaved(strategy_id=saved.strategy_id, name=saved.name, version=saved.version)
