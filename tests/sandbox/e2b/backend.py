"""The e2b backend at the test service: how the tests of this folder make it."""

from collections.abc import Callable
from typing import Any

from tests.sandbox.e2b.service.server import Service

from neural_trader_sandbox.e2b.sandbox import E2BSandbox
from neural_trader_sandbox.e2b.settings import E2BSettings
from neural_trader_sandbox.port import Job

HOME_ID = "0123abcd"
SCRIPT = "neural_trader_sandbox.script:run_script"


def settings_of(service: Service, **changes: Any) -> E2BSettings:
    """Settings that lead to the service."""
    values: dict[str, Any] = {
        "api_key": service.api_key,
        "api_url": service.url,
        "sandbox_url": service.url,
        "home_id": HOME_ID,
        "request_timeout_s": 5.0,
        "start_timeout_s": 30.0,
    }
    return E2BSettings(**(values | changes))


def sandbox_at(
    service: Service,
    preload: tuple[str, ...] = (),
    *,
    consent: Callable[[str], None] = lambda destination: None,
    **changes: Any,
) -> E2BSandbox:
    """The backend, with everybody's consent unless another is given."""
    return E2BSandbox(settings_of(service, **changes), preload, consent)


def script(source: str, tables: dict[str, bytes] | None = None) -> Job:
    """A job that runs a source text."""
    return Job(SCRIPT, {"source": source}, tables or {})
