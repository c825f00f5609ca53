"""Fixtures that every test may use."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Runs `@pytest.mark.anyio` tests on asyncio, the loop the server uses."""
    return "asyncio"
