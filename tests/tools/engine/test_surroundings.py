"""Chance comes from the seed and time from the bars, whichever way a strategy asks for them."""

import datetime
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable
from datetime import UTC, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.engine.surroundings import Surroundings

NOW = datetime.datetime(2012, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
CHANCE: dict[str, Callable[[], Any]] = {
    "random.random": random.random,
    "random.Random()": lambda: random.Random().random(),  # noqa: S311
    "random.SystemRandom": lambda: random.SystemRandom().random(),
    "os.urandom": lambda: os.urandom(8),
    "secrets": lambda: secrets.token_hex(8),
    "uuid4": lambda: str(uuid.uuid4()),
    "np.random.rand": lambda: np.random.rand(),  # noqa: NPY002
    "np.random.RandomState()": lambda: np.random.RandomState().rand(),
    "default_rng()": lambda: np.random.default_rng().random(),
    "PCG64()": lambda: np.random.Generator(np.random.PCG64()).random(),
    "polars sample": lambda: pl.Series(range(1_000)).sample(8).to_list(),
    "polars shuffle": lambda: pl.Series(range(1_000)).shuffle().to_list(),
}
CLOCKS: dict[str, tuple[Callable[[], Any], Any]] = {
    "now": (lambda: datetime.datetime.now(), NOW.replace(tzinfo=None)),  # noqa: DTZ005
    "now(UTC)": (lambda: datetime.datetime.now(UTC), NOW),
    "now(+2)": (
        lambda: datetime.datetime.now(timezone(timedelta(hours=2))).replace(tzinfo=None),
        NOW.replace(tzinfo=None) + timedelta(hours=2),
    ),
    "utcnow": (lambda: getattr(datetime.datetime, "utcnow")(), NOW.replace(tzinfo=None)),  # noqa: B009  # deprecated, and used by strangers
    "datetime.today": (lambda: datetime.datetime.today(), NOW.replace(tzinfo=None)),  # noqa: DTZ002
    "date.today": (lambda: datetime.date.today(), NOW.date()),  # noqa: DTZ011
    "time": (lambda: time.time(), NOW.timestamp()),
    "time_ns": (lambda: time.time_ns(), 1_330_837_567_000_008_000),
    "monotonic": (lambda: time.monotonic(), NOW.timestamp()),
    "perf_counter_ns": (lambda: time.perf_counter_ns(), 1_330_837_567_000_008_000),
    "process_time": (lambda: time.process_time(), NOW.timestamp()),
    "clock_gettime": (lambda: time.clock_gettime(time.CLOCK_REALTIME), NOW.timestamp()),
    "gmtime": (lambda: tuple(time.gmtime())[:6], (2012, 3, 4, 5, 6, 7)),
    "gmtime(0)": (lambda: time.gmtime(0).tm_year, 1970),
    "strftime": (lambda: time.strftime("%Y-%m-%d"), "2012-03-04"),
    "asctime": (lambda: time.asctime(), "Sun Mar  4 05:06:07 2012"),
}


@pytest.mark.parametrize("name", CHANCE)
def test_chance_repeats_with_the_seed_and_only_with_it(name: str) -> None:
    def draw(seed: int) -> list[Any]:
        with Surroundings(seed, NOW):
            return [CHANCE[name]() for _ in range(3)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len({str(value) for value in draw(1)}) == 3


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
def test_every_clock_says_what_the_bars_say(name: str) -> None:
    ask, expected = CLOCKS[name]
    with Surroundings(0, NOW):
        assert ask() == expected
    assert ask() != expected or name == "gmtime(0)"


def test_the_clock_can_be_told_the_current_bar() -> None:
    with Surroundings(0, NOW) as surroundings:
        surroundings.now = NOW + timedelta(days=1)
        assert datetime.date.today() == datetime.date(2012, 3, 5)  # noqa: DTZ011
        assert isinstance(datetime.datetime.now(UTC), type(NOW))


def test_afterwards_everything_is_as_it_was() -> None:
    names = [(module, name) for module in (time, os, random) for name in dir(module)]
    before = {(module.__name__, name): getattr(module, name) for module, name in names}
    members = [set(vars(cls)) for cls in (datetime.datetime, datetime.date)]
    with Surroundings(0, NOW), pytest.raises(ZeroDivisionError), Surroundings(1, NOW + timedelta(days=9)):
        _ = 1 / 0
    assert {(module.__name__, name): getattr(module, name) for module, name in names} == before
    assert [set(vars(cls)) for cls in (datetime.datetime, datetime.date)] == members
    assert abs(datetime.datetime.now(UTC).timestamp() - time.time()) < 60
    assert len({random.Random().random() for _ in range(4)}) == 4  # noqa: S311
