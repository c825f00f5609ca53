"""The e2b backend at the test service: how the tests of this folder make it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
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


def environment(service: Service, home: Path) -> dict[str, str]:
    return {
        "NEURAL_TRADER_HOME": str(home),
        "NEURAL_TRADER_E2B_API_URL": service.url,
        "NEURAL_TRADER_E2B_SANDBOX_URL": service.url,
        "NEURAL_TRADER_E2B_PRICE_USD_PER_S": "2",
        "E2B_API_KEY": service.api_key,
    }


async def command(service: Service, home: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Our command line, in a process of its own."""
    return await anyio.run_process(
        [sys.executable, "-m", "neural_trader_server", *words],
        env=dict(os.environ) | environment(service, home),
        check=False,
    )
