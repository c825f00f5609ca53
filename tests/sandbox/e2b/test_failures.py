"""What goes wrong at the service arrives in our words, with the next step, and without the key."""

import socket
from typing import Any

import anyio
import pytest
from tests.sandbox.e2b.backend import sandbox_at, script, settings_of
from tests.sandbox.e2b.service.faults import Fault
from tests.sandbox.e2b.service.machine import Machine
from tests.sandbox.e2b.service.server import Service

from neural_trader_governance.errors import ConfigurationError, NetworkError, NeuralTraderError
from neural_trader_sandbox.e2b import recipe

pytestmark = pytest.mark.anyio

CREATE = r"api POST /v2/sandboxes$"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, ConfigurationError, "e2b_key_refused"),
        (429, NetworkError, "e2b_rate_limited"),
        (503, NetworkError, "e2b_busy"),
        (502, NetworkError, "e2b_failed"),
        (500, NetworkError, "e2b_failed"),
    ],
)
async def test_an_error_of_the_service_has_our_code_and_a_next_step(
    e2b_service: Service, status: int, kind: type[NeuralTraderError], code: str
) -> None:
    message = f"no \x1b[31mred \u202e for {e2b_service.api_key}"
    e2b_service.faults = [Fault(CREATE, times=-1, status=status, message=message)]
    with pytest.raises(kind) as failed:
        await sandbox_at(e2b_service).run(script("1"))
    assert (failed.value.code, bool(failed.value.next_step)) == (code, True)
    assert e2b_service.api_key not in str(failed.value)
    assert "\x1b" not in str(failed.value)
    assert "\u202e" not in str(failed.value)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_that_is_busy_for_a_moment_is_asked_again(e2b_service: Service, status: int) -> None:
    e2b_service.faults = [Fault(CREATE, times=2, status=status)]
    assert (await sandbox_at(e2b_service).run(script("result = 1"))).value == 1


async def test_a_wrong_key_and_a_missing_one_say_what_to_do(e2b_service: Service) -> None:
    with pytest.raises(ConfigurationError, match="e2b_key_refused"):
        await sandbox_at(e2b_service, api_key="e2b_wrong").run(script("1"))
    with pytest.raises(ConfigurationError, match=r"e2b_key_missing.*keyring set"):
        await sandbox_at(e2b_service, api_key=None).run(script("1"))


async def test_a_template_that_is_not_there_names_the_recipe(e2b_service: Service) -> None:
    with pytest.raises(ConfigurationError, match=r"e2b_template_missing.*neural-trader sandbox template"):
        await sandbox_at(e2b_service, template="no-such").run(script("1"))


async def test_a_template_with_other_versions_is_not_used_and_names_the_recipe(
    e2b_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe.VERSIONS, "polars", frozenset({"0.1"}))
    with pytest.raises(
        ConfigurationError, match=r"e2b_template_unfit.*polars .*needed: 0\.1.*sandbox template"
    ):
        await sandbox_at(e2b_service).run(script("1"))
    assert e2b_service.running() == []


async def test_nobody_listening_and_no_such_name_are_unreachable(e2b_service: Service) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

        async def ask(address: str) -> None:
            backend = sandbox_at(e2b_service, api_url=address, sandbox_url=address, start_timeout_s=2)
            with pytest.raises(NetworkError) as failed:
                await backend.run(script("1"))
            assert failed.value.code in ("e2b_unreachable", "e2b_timeout"), failed.value

        async with anyio.create_task_group() as group:
            group.start_soon(ask, url)
            group.start_soon(ask, "https://no-such-host.invalid")


async def test_our_own_deadline_holds_where_the_service_is_slow(e2b_service: Service) -> None:
    e2b_service.faults = [Fault(r"code POST /execute", delay_s=20)]
    with pytest.raises(NetworkError, match="e2b_timeout"):
        await sandbox_at(e2b_service, start_timeout_s=1.5).run(script("1"))
    assert e2b_service.running() == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(r"code POST /execute", drop_after_bytes=3),
        Fault(r"envd POST /files", status=502, message="The sandbox was not found", times=-1),
        Fault(r"envd POST /process.Process/Start", drop_after_bytes=1, times=-1),
        Fault(r"code POST /execute", status=502, message="The sandbox was not found", times=-1),
    ],
    ids=["check dropped", "upload 502", "start dropped", "check 502"],
)
async def test_a_connection_that_falls_before_the_run_is_a_network_error(
    e2b_service: Service, fault: Fault
) -> None:
    e2b_service.faults = [fault]
    with pytest.raises((NetworkError, ConfigurationError)) as failed:
        await sandbox_at(e2b_service, start_timeout_s=10).run(script("1"))
    assert failed.value.code.startswith("e2b_")
    assert e2b_service.running() == []


async def test_a_kernel_that_is_wedged_is_noticed_and_its_sandbox_killed(e2b_service: Service) -> None:
    e2b_service.faults = [Fault(r"code POST /execute", slow_s=0.5)]
    with pytest.raises(NetworkError, match="e2b_timeout"):
        await sandbox_at(e2b_service, start_timeout_s=2).run(script("1"))
    assert e2b_service.running() == []


def test_variables_that_would_lead_the_sdk_elsewhere_are_refused(
    e2b_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(e2b_service)
    settings.connection()
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_DEBUG"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "https://elsewhere.example")
            with pytest.raises(ConfigurationError, match=f"e2b_environment.*{name}"):
                settings.connection()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(CREATE, times=-1, status=402, message="no credit"), "e2b_payment_required"),
        (Fault(CREATE, times=-1, drop_after_bytes=0), "e2b_connection_lost"),
        (Fault(CREATE, slow_s=0.3), "e2b_timeout"),
        (Fault(r"code POST /execute", drop_after_bytes=3), "e2b_connection_lost"),
        (Fault(r"code POST /execute", status=502, message="The sandbox was not found"), "e2b_sandbox_gone"),
        (Fault(r"envd POST /files", times=-1, status=507, message="no space"), "e2b_disk_full"),
    ],
    ids=["402", "dropped", "slow", "check dropped", "check 502", "disk"],
)
async def test_each_fault_has_the_code_whose_next_step_helps(
    e2b_service: Service, fault: Fault, code: str
) -> None:
    e2b_service.faults = [fault]
    with pytest.raises((NetworkError, ConfigurationError)) as failed:
        await sandbox_at(e2b_service, request_timeout_s=1 if fault.slow_s else 2).run(script("1"))
    assert failed.value.code == code, failed.value


def test_a_proxy_never_carries_the_key_in_the_clear(
    e2b_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = settings_of(e2b_service)
    settings.connection()
    for name in ("http_proxy", "ALL_PROXY"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "http://proxy.example:3128")
            with pytest.raises(ConfigurationError, match=r"e2b_environment.*NO_PROXY"):
                settings.connection()
            patch.setenv("NO_PROXY", "localhost,127.0.0.1")
            settings.connection()


async def test_a_service_that_puts_a_sandbox_elsewhere_is_given_nothing(
    e2b_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.sandbox.e2b.service import control

    told = control._created  # pyright: ignore[reportPrivateUsage]  # what the service tells of a new sandbox

    def elsewhere(machine: Machine) -> dict[str, Any]:
        return told(machine) | {"domain": "elsewhere.example"}

    monkeypatch.setattr(control, "_created", elsewhere)
    with pytest.raises(ConfigurationError, match=r"e2b_domain_differs.*elsewhere\.example.*consent again"):
        await sandbox_at(e2b_service).run(script("1"))
    assert [asked.path for asked in e2b_service.log if asked.plane != "api"] == []
    assert e2b_service.running() == []
