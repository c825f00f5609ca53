"""Fixtures that every test may use."""

import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: two threads of it starve a busy machine

import pytest

from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample


@pytest.fixture
def anyio_backend() -> str:
    """Runs `@pytest.mark.anyio` tests on asyncio, the loop the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def sample_archive_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive folder with the real sample prices, fetched once; copy it before writing to it."""
    root = tmp_path_factory.mktemp("sample") / "archive"
    fetch_sample(Archive(root))
    return root
