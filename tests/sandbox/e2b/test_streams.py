"""Streams at the service: messages there and back, and what ends them."""

import pytest
from tests.sandbox.e2b.backend import sandbox_at, script
from tests.sandbox.e2b.service.server import Service

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_sandbox.port import Job, Limits

pytestmark = pytest.mark.anyio

MODULE = "tests.sandbox.e2b.entries"
JOB = Job(f"{MODULE}:doubling", {})


async def test_messages_are_answered_in_turn_by_one_sandbox(e2b_service: Service) -> None:
    stream = await sandbox_at(e2b_service, (MODULE,)).open_stream(JOB)
    first = await stream.send(21)
    assert (first.status, first.value, first.stdout) == ("ok", 42, "opened\ngot 21\n")
    assert [(await stream.send(number)).value for number in range(5)] == [0, 2, 4, 6, 8]
    assert len(e2b_service.running()) == 1
    await stream.aclose()
    await stream.aclose()
    assert e2b_service.running() == []


@pytest.mark.parametrize(("message", "status"), [("raise", "error"), ("spin", "timeout")])
async def test_a_handler_that_fails_is_not_asked_again(
    e2b_service: Service, message: str, status: str
) -> None:
    stream = await sandbox_at(e2b_service, (MODULE,)).open_stream(JOB, Limits(wall_time_s=1))
    assert (await stream.send(message)).status == status
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send(1)
    assert e2b_service.running() == []


async def test_an_entry_that_returns_no_handler_opens_nothing(e2b_service: Service) -> None:
    with pytest.raises(StrategyError, match="sandbox_guest_failed"):
        await sandbox_at(e2b_service).open_stream(script("result = 1"))
    assert e2b_service.running() == []


async def test_a_sandbox_that_the_service_ends_ends_the_stream_as_killed(e2b_service: Service) -> None:
    stream = await sandbox_at(e2b_service, (MODULE,)).open_stream(JOB, Limits(wall_time_s=5))
    e2b_service.kill(e2b_service.running()[0].sandbox_id)
    result = await stream.send(1)
    assert result.status == "killed", result.error
    await stream.aclose()


async def test_a_stream_is_kept_alive_beyond_the_services_own_end(e2b_service: Service) -> None:
    stream = await sandbox_at(e2b_service, (MODULE,), lifetime_s=5).open_stream(JOB, Limits(wall_time_s=1))
    prolonged = [asked.body["timeout"] for asked in e2b_service.log if asked.path.endswith("/timeout")]
    assert prolonged
    assert prolonged[0] >= 31
    await stream.aclose()
