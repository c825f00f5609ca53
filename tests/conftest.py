"""Fixtures that every test may use."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process a test starts compiles every module again
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: two threads of it starve a busy machine

import pytest
from hypothesis import settings

from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample

# Nothing gates on wall time; CI draws the same examples every time, a developer draws new ones.
settings.register_profile("here", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("here")


# Tests of `Surroundings` pin this process's clocks; loops of session fixtures run on beside them, and a timer
# set by a pinned clock would wait for years.
asyncio.BaseEventLoop.time = lambda self, monotonic=time.monotonic: monotonic()


# A shell that starts the suite in the background has it ignore Ctrl-C, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """Runs `@pytest.mark.anyio` tests on asyncio, the loop the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], NoReturn]:
    """Ends a test whose host lacks something: a visible skip, but in CI, which has it all, a failure.

    A skip that is decided by the code under test would otherwise hide that the code broke.
    """

    def end(reason: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have what this needs: {reason}")
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def sample_archive_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive folder with the real sample prices, fetched once; copy it before writing to it."""
    root = tmp_path_factory.mktemp("sample") / "archive"
    fetch_sample(Archive(root))
    return root
