"""One sandbox for all tests of this folder; a host without the layers skips them, and says why."""

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import anyio
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits, SandboxReport, SandboxResult

if TYPE_CHECKING:
    from tests.sandbox.e2b.service.server import Service

RunScript = Callable[..., Awaitable[SandboxResult]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what `test_contract.FAST_ON_E2B` leaves to the longer runs."""
    for item in items:
        fast = getattr(getattr(item, "module", None), "FAST_ON_E2B", {})
        words = fast.get(getattr(item, "originalname", ""))
        if words is not None and "[e2b-" in item.name and not any(word in item.name for word in words):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def session_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(["numpy", "polars"], cache_dir=tmp_path_factory.mktemp("kernels"))
    yield sandbox
    anyio.run(sandbox.aclose)


@pytest.fixture(scope="session")
def report(session_sandbox: LocalSandbox) -> SandboxReport:
    return anyio.run(session_sandbox.probe)


@pytest.fixture
def sandbox(
    session_sandbox: LocalSandbox, report: SandboxReport, lacking: Callable[[str], NoReturn]
) -> LocalSandbox:
    if not report.ok:
        missing = next(layer for layer in report.layers if not layer.holds)
        lacking(f"this host lacks {missing.name}: {missing.detail}; {missing.next_step}")
    return session_sandbox


@pytest.fixture
def run_script(sandbox: LocalSandbox) -> RunScript:
    """Runs a source text in the sandbox: `await run_script(source, limits=…, tables=…)`."""

    async def run(
        source: str, *, limits: Limits | None = None, tables: dict[str, bytes] | None = None
    ) -> SandboxResult:
        job = Job("neural_trader_sandbox.script:run_script", {"source": source}, tables or {})
        return await sandbox.run(job, limits or Limits(wall_time_s=20))

    return run


@pytest.fixture(scope="session")
def session_e2b_service(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Service]":
    from tests.sandbox.e2b.service.server import Service  # only those who ask for it import the SDK

    service = Service(tmp_path_factory.mktemp("service-kernels"))
    with service.serve():
        yield service


@pytest.fixture
def e2b_service(session_e2b_service: "Service", sandbox: LocalSandbox) -> "Iterator[Service]":
    """An E2B-compatible service, every knob at rest; sandboxes that a test leaves are killed after it."""
    del sandbox  # the service's own sandboxes are made of the local backend
    session_e2b_service.reset()
    yield session_e2b_service
    session_e2b_service.reset()
