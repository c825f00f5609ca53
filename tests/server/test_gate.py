"""The gate: what is not served is neither listed nor callable; every call ends in time."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.principals import Role
from neural_trader_governance.untrusted.readings import Reading, Source, expose
from neural_trader_server.apps import CHART_URI
from neural_trader_server.catalogue import CATALOGUE, TOOLSETS, ToolSpec, bind
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.gate import DEFAULT_TOOLSETS, Gate, select_toolsets
from neural_trader_server.metering import Measured

SPECS = {spec.name: spec for spec in CATALOGUE}
WRITERS = {
    "orders_submit",
    "orders_preview",
    "orders_cancel",
    "strategy_save",
    "memory_write",
    "backtest_start",
}


class Done(BaseModel):
    """What the test tools answer."""

    done: bool = True


async def probe() -> Done:
    """Answers at once."""
    return Done()


async def stall() -> Done:
    """Never answers."""
    await anyio.sleep_forever()
    return Done()


def endpoint(gate: Gate, *specs: ToolSpec, function: object = probe) -> Endpoint:
    tools = [Tool.from_function(bind(function, {}), name=spec.name) for spec in specs]  # pyright: ignore[reportArgumentType]  # one of the two above
    return Endpoint(tools, gate, "0.0.0")


def test_the_default_serves_everything_but_trading_and_still_the_halt() -> None:
    gate = Gate(SPECS, select_toolsets(None), False, 5.0)
    served = {name for name in SPECS if gate.serves(name)}
    assert "trading_halt" in served
    assert served & {"orders_preview", "orders_submit", "orders_cancel"} == set()
    assert {spec.name for spec in CATALOGUE if spec.toolset != "trading"} <= served


def test_toolsets_replace_the_default_set() -> None:
    gate = Gate(SPECS, select_toolsets("market, trading"), False, 5.0)
    assert {SPECS[name].toolset for name in SPECS if gate.serves(name)} == {"market", "trading"}


def test_read_only_wins_over_everything_but_the_halt() -> None:
    gate = Gate(SPECS, select_toolsets("all"), True, 5.0)
    served = {name for name in SPECS if gate.serves(name)}
    assert served & WRITERS == set()
    assert {name for name in served if not SPECS[name].read_only} == {"trading_halt"}


def test_all_serves_all() -> None:
    gate = Gate(SPECS, select_toolsets("all"), False, 5.0)
    assert all(gate.serves(name) for name in SPECS)


@pytest.mark.parametrize("text", ["", " , ", "markt", "market,nope"])
def test_an_unknown_toolset_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        select_toolsets(text)
    assert caught.value.code == "unknown_toolset"


def test_a_misspelled_toolset_is_met_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="did you mean market"):
        select_toolsets("markt")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_hidden_tool_is_not_listed_and_its_call_says_how_to_serve_it(mode: str) -> None:
    gate = Gate(SPECS, DEFAULT_TOOLSETS, False, 5.0)
    server = endpoint(gate, SPECS["orders_submit"], SPECS["status_get"], SPECS["trading_halt"])
    async with Client(server, mode=mode) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        assert listed == {"status_get", "trading_halt"}
        answer = await client.call_tool("orders_submit", {})
        assert answer.is_error
        assert answer.content[0].model_dump()["text"].startswith("toolset_not_served: orders_submit ")
        assert "--toolsets" in answer.content[0].model_dump()["text"]
        assert (await client.call_tool("status_get", {})).structured_content == {"done": True}


@pytest.mark.anyio
async def test_a_writer_is_refused_where_the_server_is_read_only() -> None:
    server = endpoint(Gate(SPECS, TOOLSETS, True, 5.0), SPECS["strategy_save"])
    async with Client(server) as client:
        answer = await client.call_tool("strategy_save", {})
    assert answer.content[0].model_dump()["text"].startswith("read_only: ")


@pytest.mark.anyio
async def test_an_unknown_tool_is_met_with_the_nearest_served_one() -> None:
    async with Client(endpoint(Gate(SPECS, TOOLSETS, False, 5.0), SPECS["status_get"])) as client:
        answer = await client.call_tool("status_got", {})
    assert answer.is_error
    assert answer.content[0].model_dump()["text"] == (
        "unknown_tool: there is no tool 'status_got'; did you mean status_get?"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_never_ends_is_ended(mode: str) -> None:
    server = endpoint(Gate(SPECS, TOOLSETS, False, 0.05), SPECS["status_get"], function=stall)
    async with Client(server, mode=mode) as client:
        with anyio.fail_after(5):
            answer = await client.call_tool("status_get", {})
    assert answer.content[0].model_dump()["text"].startswith("deadline_exceeded: status_get took longer")


@pytest.mark.anyio
async def test_who_has_no_role_reads_nothing_by_another_method_either() -> None:
    roles: list[Role | None] = [Role.READER]
    gate = Gate({}, TOOLSETS, False, 5.0, standing=lambda _: roles[0])
    async with Client(endpoint(gate), cache=None) as client:  # what it was told before, it may keep
        assert [str(one.uri) for one in (await client.list_resources()).resources] == [CHART_URI]
        assert (await client.list_prompts()).prompts == []
        roles[0] = None
        for ask in (client.list_resources, client.list_prompts, client.list_resource_templates):
            with pytest.raises(MCPError, match="not_enrolled"):
                await ask()
        with pytest.raises(MCPError, match="not_enrolled"):
            await client.read_resource("policy://active")
        with pytest.raises(MCPError, match="not_enrolled"):
            await client.get_prompt("daily")


@pytest.mark.anyio
async def test_reading_a_resource_is_bounded_measured_and_marked_as_a_call_is() -> None:
    measured: list[str] = []
    marked: list[str] = []

    @asynccontextmanager
    async def measure(name: str, _: object) -> AsyncGenerator[Measured]:
        if len(measured) == 2:
            raise RiskError("budget_exhausted", "nothing is left", "ask a person")
        measured.append(name)
        yield Measured(data_call=False)

    async def mark(name: str, readings: Sequence[Reading]) -> None:
        marked.extend(f"{name} {reading.text}" for reading in readings)

    async def told() -> str:
        return expose(Source.NEWS, "strange words")

    async def never() -> str:
        await anyio.sleep_forever()
        return ""

    server = endpoint(Gate({}, TOOLSETS, False, 0.1, mark=mark, measure=measure))
    server.resource("strange://words")(told)
    server.resource("strange://silence")(never)
    async with Client(server) as client:
        assert "strange words" in str(await client.read_resource("strange://words"))
        with anyio.fail_after(5), pytest.raises(MCPError, match="deadline_exceeded: strange://"):
            await client.read_resource("strange://silence")
        with pytest.raises(MCPError, match="budget_exhausted"):
            await client.read_resource("strange://words")
    assert measured == ["strange://", "strange://"]
    assert marked == ["strange:// strange words"]
    server = endpoint(Gate({}, TOOLSETS, False, 5.0))  # without a way to mark
    server.resource("strange://words")(told)
    async with Client(server) as client:
        with pytest.raises(MCPError, match="taint_not_recorded"):
            await client.read_resource("strange://words")
