"""The surroundings of a strategy: chance that is seeded and a clock that is pinned.

Two runs on the same bars must decide the same. So whatever Python code asks for chance or for the time is
answered from the run's seed and from the bars. This is for honest strategies; one that goes round it, with a
system call of its own or the addresses of its objects, is found by running it twice.
"""

import ctypes
import datetime as dates
import gc
import os
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.random import bit_generator

EPOCH: Final = dates.datetime(1970, 1, 1, tzinfo=dates.UTC)
_MICROSECOND: Final = dates.timedelta(microseconds=1)
_DATETIME: Final = dates.datetime
_DATE: Final = dates.date
_SECONDS: Final = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
_DISTURBED_OBJECTS: Final = 20_000


class Surroundings:
    """Chance and time of this process, pinned between `__enter__` and `__exit__`.

    Args:
        seed: Of `random`, `numpy.random` and polars; generators that are made without a seed draw theirs
            from it, in the order in which they are made.
        now: What every clock says, UTC. `now` may be set while pinned, such as to the current bar's time, or
            made to follow another clock.

    All clocks stand still in between, also `time.monotonic` and `time.perf_counter`. Not reached:
    `numpy.datetime64("now")`, numba's own generator, and code that already holds an unpinned function.
    """

    def __init__(self, seed: int, now: dates.datetime) -> None:
        self._clock: Callable[[], int] | None = None
        self._now_set = now
        self._seed = seed
        self._entropy = random.Random(seed ^ 0x5EED)  # noqa: S311  # it must repeat
        self._undo: list[Callable[[], None]] = []

    @property
    def now(self) -> dates.datetime:
        """What every clock says."""
        if self._clock is None:
            return self._now_set
        return EPOCH + dates.timedelta(microseconds=self._clock())

    @now.setter
    def now(self, moment: dates.datetime) -> None:
        self._now_set, self._clock = moment, None

    def follow(self, clock: Callable[[], int]) -> None:
        """Says what another clock says from here on: microseconds since 1970, UTC."""
        self._clock = clock

    def __enter__(self) -> Self:
        entropy, python_seed = self._entropy, random.Random.seed

        def seed_always(generator: random.Random, a: Any = None, version: int = 2) -> None:
            python_seed(generator, entropy.getrandbits(128) if a is None else a, version)

        self._replace(random.Random, "seed", seed_always)
        self._replace(random, "_urandom", entropy.randbytes)
        self._replace(os, "urandom", entropy.randbytes)
        self._replace(bit_generator, "randbits", entropy.getrandbits)
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)  # noqa: NPY002  # users call np.random.*; the run must repeat
        pl.set_random_seed(self._seed % 2**63)
        for name in _SECONDS:
            self._replace(time, name, lambda: self._microseconds() / 1e6)
            self._replace(time, f"{name}_ns", lambda: self._microseconds() * 1000)
        self._replace(time, "clock_gettime", lambda clock: self._microseconds() / 1e6)  # pyright: ignore[reportUnknownLambdaType]  # any clock
        self._replace(time, "clock_gettime_ns", lambda clock: self._microseconds() * 1000)  # pyright: ignore[reportUnknownLambdaType]  # any clock
        for name in ("localtime", "gmtime", "ctime"):
            self._replace(time, name, self._given_seconds(getattr(time, name)))
        for name, place in (("strftime", 1), ("asctime", 0)):
            self._replace(time, name, self._given_moment(getattr(time, name), place))
        self._pin(_DATETIME, "now", classmethod(self._now()))
        self._pin(_DATETIME, "utcnow", classmethod(self._now()))
        self._pin(_DATETIME, "today", classmethod(self._now()))
        self._pin(_DATE, "today", classmethod(self._today()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._undo:
            self._undo.pop()()

    def _microseconds(self) -> int:
        return (self.now - EPOCH) // _MICROSECOND

    def _now(self) -> Callable[..., Any]:
        """Returns `datetime.now`; without a zone it gives UTC."""

        def now(cls: Any, tz: dates.tzinfo | None = None) -> Any:
            moment = self.now.astimezone(dates.UTC if tz is None else tz)
            return cls(*moment.timetuple()[:6], moment.microsecond, tzinfo=tz, fold=moment.fold)

        return now

    def _today(self) -> Callable[..., Any]:
        def today(cls: Any) -> Any:
            return cls(*self.now.timetuple()[:3])

        return today

    def _given_seconds(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(seconds: float | None = None) -> Any:
            return function(self._microseconds() / 1e6 if seconds is None else seconds)

        return call

    def _given_moment(self, function: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            return function(*arguments, *([] if len(arguments) > place else [self.now.timetuple()]))

        return call

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        self._undo.append(lambda: setattr(owner, name, before))
        setattr(owner, name, value)

    def _pin(self, cls: type, name: str, value: Any) -> None:
        """Replaces a method of a class written in C, so that every module's `datetime` is the same class."""
        [names] = gc.get_referents(vars(cls))
        missing = object()
        before = names.get(name, missing)

        def put(method: Any) -> None:
            if method is missing:
                del names[name]
            else:
                names[name] = method
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))

        self._undo.append(lambda: put(before))
        put(value)


def disturb(amount: int) -> list[object]:
    """Returns objects that, while they are kept, move every later object to another address.

    A run that is disturbed differently decides differently if it depends on `id()`, which is what the order
    of a set of objects depends on too.
    """
    generator = random.Random(amount)  # noqa: S311  # it must repeat
    kept: list[object] = [bytearray(generator.randrange(1, 480)) for _ in range(_DISTURBED_OBJECTS)]
    kept += [object() for _ in range(generator.randrange(1, _DISTURBED_OBJECTS))]
    return kept
