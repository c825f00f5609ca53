"""What lives at the service is charged to somebody: probes, streams that wait, unused warm sandboxes."""

from pathlib import Path

import anyio
import pytest
from tests.sandbox.e2b.service.server import Service

from neural_trader_sandbox.port import Job, Limits
from neural_trader_server.app import Services, open_desk
from neural_trader_server.home import Home
from neural_trader_server.remote_sandbox import give_consent, revoke_consent
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio

STREAM = "tests.sandbox.e2b.entries"


def settings_of(service: Service, **changes: object) -> Settings:
    return Settings.model_validate(
        {
            "sandbox_backend": "e2b",
            "e2b_api_url": service.url,
            "e2b_sandbox_url": service.url,
            "e2b_api_key": service.api_key,
            **changes,
        }
    )


def agree(services: Services, service: Service) -> None:
    give_consent(services, service.url.removeprefix("http://"))


def charged_s(services: Services) -> float:
    """Every second of a sandbox that anybody was charged for."""
    return sum(row.sandbox_ms for row in services.meter.ledger.rows()) / 1000


async def test_a_probe_is_charged(e2b_service: Service, tmp_path: Path) -> None:
    async with open_desk(Home(tmp_path / "home"), settings_of(e2b_service)) as services:
        agree(services, e2b_service)
        sandbox = services.sandbox_with(())
        report = await sandbox.probe()
        assert report.charged_ms > 1000  # a guest spins for a second
        assert charged_s(services) == pytest.approx(report.charged_ms / 1000, abs=0.01)
        await sandbox.aclose()


async def test_a_stream_that_waited_until_its_end_is_charged_for_the_wait(
    e2b_service: Service, tmp_path: Path
) -> None:
    async with open_desk(Home(tmp_path / "home"), settings_of(e2b_service)) as services:
        agree(services, e2b_service)
        sandbox = services.sandbox_with((STREAM,))
        stream = await sandbox.open_stream(Job(f"{STREAM}:doubling", {}), Limits(wall_time_s=5))
        assert (await stream.send(1)).value == 2
        before = charged_s(services)
        await anyio.sleep(0.5)
        await stream.aclose()
        assert charged_s(services) - before >= 0.5
        await sandbox.aclose()


async def test_a_warm_sandbox_that_nobody_used_is_charged_when_it_ends(
    e2b_service: Service, tmp_path: Path
) -> None:
    async with open_desk(Home(tmp_path / "home"), settings_of(e2b_service, e2b_warm=1)) as services:
        agree(services, e2b_service)
        sandbox = services.sandbox_with(())
        script = Job("neural_trader_sandbox.script:run_script", {"source": "result = 1"})
        assert (await sandbox.run(script)).value == 1
        before = charged_s(services)
        with anyio.fail_after(10):
            while len(e2b_service.running()) != 1 or not any(  # noqa: ASYNC110 - it has no event
                each.path.endswith("/Start") and each.sandbox_id == e2b_service.running()[0].sandbox_id
                for each in e2b_service.log
            ):
                await anyio.sleep(0.01)
        await anyio.sleep(0.5)
        await sandbox.aclose()
        assert charged_s(services) - before >= 0.5
        assert e2b_service.running() == []


@pytest.mark.slow
async def test_status_tells_of_the_service_and_soon_of_what_a_person_changed(
    e2b_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_trader_tools.core.sandbox_health.KEEP_FAILURE_S", 0.0)
    async with open_desk(Home(tmp_path / "home"), settings_of(e2b_service)) as services:
        status = await services.call("status_get")
        assert (status["sandbox"]["backend"], e2b_service.log) == ("e2b", []), status["sandbox"]
        agree(services, e2b_service)
        told = str((await services.call("status_get"))["sandbox"])
        assert "internet_off" in told, told
        assert e2b_service.api_key not in told
        assert charged_s(services) > 1
        revoke_consent(services)
    assert e2b_service.running() == []


def test_two_desks_of_one_name_in_two_kernels_are_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    from neural_trader_sandbox.e2b import sandbox

    own = sandbox._host()  # pyright: ignore[reportPrivateUsage]  # nothing else shows it
    assert own == sandbox._host()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(sandbox, "own_boot_id", lambda: "another")
    assert own != sandbox._host()  # pyright: ignore[reportPrivateUsage]
