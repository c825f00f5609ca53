"""A cluster: shards on Ray (the extra `ray`), each node with a sandbox of its own.

The strategy's code runs in the local sandbox of the node that does the work, never in Ray's own worker.
Prices are put into the object store once; a shard takes up to two seconds, asking for it a millisecond. The
outcomes are those of `shards.py`, bit for bit: a combination's seed depends on its parameters alone.
What sandboxes on other nodes cost is not charged to a budget: only a person at the command line comes here.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import anyio.to_thread

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.sweeps.ground import Ground, Outcomes
from neural_trader_tools.backtest.sweeps.record import SweepRequest
from neural_trader_tools.backtest.sweeps.service import Backend
from neural_trader_tools.backtest.sweeps.shards import Shards
from neural_trader_tools.backtest.sweeps.space import Value
from neural_trader_tools.backtest.sweeps.work import Runner

PRELOAD: Final = (
    "numpy",
    "polars",
    "neural_trader_tools.engine.guest",
    "neural_trader_tools.engine.sweep",
    "neural_trader_tools.features.catalogue",
)


class Node:
    """What lives in one of Ray's workers: a sandbox and the ground, for as long as the sweep lasts.

    Args:
        material: Request, prices, settings, edges, seed, features; from the object store.
    """

    def __init__(self, material: tuple[BacktestRequest, Any, Any, Any, int, str]) -> None:
        from neural_trader_sandbox.local.sandbox import LocalSandbox

        request, prices, settings, edges, seed, features = material
        self._sandbox = LocalSandbox(PRELOAD, warm=1)
        ground = Ground(prices, settings, edges, threads=1)
        self._shards = Shards(self._sandbox, request, ground, seed, features)

    async def run(self, combinations: Sequence[dict[str, Value]]) -> Outcomes:
        """As `Shards.run`; on Ray's own event loop, which is asyncio's."""
        return await self._shards.run(combinations)

    async def aclose(self) -> None:
        """Ends the sandbox."""
        await self._sandbox.aclose()


class RemoteNode:
    """A node as `Work` sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def run(self, combinations: Sequence[dict[str, Value]]) -> Outcomes:
        """Returns what the node found.

        Raises:
            StrategyError, HostError: as on this machine; Ray's own failures are `cluster_failed`.
        """
        return cast(Outcomes, await _result(self.actor.run.remote(list(combinations))))


def ray_backend(address: str, workers: int) -> Backend:
    """Returns the backend that runs shards on a Ray cluster.

    Args:
        address: Of the cluster, `auto` for the one of this machine, `local` for a new one here.
        workers: Nodes at the same time, one core each.

    Raises:
        ConfigurationError: `ray_missing`.
    """
    try:
        engine: Any = importlib.import_module("ray")
    except ImportError:
        raise ConfigurationError(
            "ray_missing", "--ray needs ray, which is not installed", "pip install 'neural-trader[ray]'"
        ) from None

    async def open_nodes(
        shards: Shards, request: SweepRequest
    ) -> tuple[list[Runner], Callable[[], Awaitable[None]]]:
        def start() -> list[RemoteNode]:
            where = {"num_cpus": workers} if address == "local" else {"address": address}
            if not engine.is_initialized():
                engine.init(**where, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
            ground = shards.ground
            material = engine.put(
                (
                    request.base,
                    list(ground.prices),
                    ground.settings,
                    ground.edges,
                    shards.seed,
                    shards.features,
                )
            )
            remote = engine.remote(num_cpus=1)(Node)
            return [RemoteNode(remote.remote(material)) for _ in range(workers)]

        try:
            nodes = await anyio.to_thread.run_sync(start)
        except Exception as error:  # ray has no root of its errors
            raise HostError(
                "cluster_unreachable",
                f"Ray at {address!r:.80}: {str(error)[:200]}",
                "start one with `ray start --head`, or leave --ray out",
            ) from error

        async def close() -> None:
            for node in nodes:
                with anyio.move_on_after(10):
                    await _result(node.actor.aclose.remote())
                engine.kill(node.actor)
            if address == "local":
                await anyio.to_thread.run_sync(engine.shutdown)

        return [*nodes], close

    return open_nodes


async def _result(reference: Any) -> Any:
    """Waits for a remote call; what our own code raised there is raised here."""
    try:
        return await asyncio.wrap_future(reference.future())
    except Exception as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception):
            raise cause from error
        raise HostError(
            "cluster_failed", f"{type(error).__name__}: {str(error)[:200]}", "resume the sweep"
        ) from error
