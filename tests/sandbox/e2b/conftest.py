"""What points the unmodified SDK at the E2B-compatible service (`e2b_service`, tests/sandbox/conftest.py)."""

from typing import Any

import pytest
from tests.sandbox.e2b.service.server import Service


@pytest.fixture
def connection(e2b_service: Service) -> dict[str, Any]:
    return {"api_key": e2b_service.api_key, "api_url": e2b_service.url, "sandbox_url": e2b_service.url}
