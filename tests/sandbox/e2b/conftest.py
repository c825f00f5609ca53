"""What points the unmodified SDK at the E2B-compatible service (`e2b_service`, tests/sandbox/conftest.py)."""

import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.sandbox.e2b.backend import command
from tests.sandbox.e2b.service.server import Service


@pytest.fixture
def connection(e2b_service: Service) -> dict[str, Any]:
    return {"api_key": e2b_service.api_key, "api_url": e2b_service.url, "sandbox_url": e2b_service.url}


@pytest.fixture(scope="session")
def session_consent(session_e2b_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("consent") / "home"
    given = anyio.run(command, session_e2b_service, home, "sandbox", "consent", "e2b", "--yes")
    assert given.returncode == 0, given.stderr
    return home


@pytest.fixture
def agreed_home(session_consent: Path, tmp_path: Path) -> Path:
    """A home of its own whose person agreed, on the command line, that data goes to the service."""
    return shutil.copytree(session_consent, tmp_path / "home")
