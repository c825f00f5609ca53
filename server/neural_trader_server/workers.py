"""Workers: several processes that serve one address, and the one that watches over them.

    neural-trader serve --transport http --workers 4

The watcher forks before anything is opened and serves nobody. Each worker listens by itself on the same
address (SO_REUSEPORT: the kernel spreads connections) over the same home, whose database is what they share;
the rates' buckets lie in memory that all of them have. The first keeps house (reconciles, delivers alerts,
settles), and the others begin when it is ready. Who ends without being asked is replaced; where that does
not help, all end.
"""

import contextlib
import ctypes
import functools
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from neural_trader_governance.errors import NeuralTraderError

Ready = Callable[[], None]
Work = Callable[[int, Ready], None]
"""`work(number, ready)`: what worker `number` does, from 0; it calls `ready` once it serves."""

QUICK_S, QUICK_ENDS = 10.0, 3
"""Ends within ten seconds of a start; after three in a row another start would not help."""

_ENDING = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Watch:
    """The workers that run, by process id.

    Args:
        count: How many there shall be.
        work: What each of them does.
    """

    count: int
    work: Work
    _running: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    _stopping: bool = False
    _quick_ends: int = 0

    def keep(self) -> int:
        """Starts the workers and keeps their number until a signal comes; returns the exit status."""
        for ending in _ENDING:
            signal.signal(ending, self._stop)
        if not self._start(0, wait=True):  # it has said why; others would say the same
            (process,) = self._running
            return int(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0)
        for number in range(1, self.count):
            if not self._stopping:
                self._start(number)
        failed = False
        while self._running:
            process, status = os.waitpid(-1, 0)
            if process not in self._running:
                continue
            number, began = self._running.pop(process)
            if self._stopping:
                failed |= os.waitstatus_to_exitcode(status) != 0
                continue
            quick = time.monotonic() - began < QUICK_S
            self._quick_ends = self._quick_ends + 1 if quick else 0
            log.error("worker_ended", worker=number, status=os.waitstatus_to_exitcode(status))
            if self._quick_ends >= QUICK_ENDS:
                log.critical("workers_given_up", ends=self._quick_ends)
                failed = True
                self._stop()
            else:
                self._start(number)
        return int(failed)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for process in list(self._running):
            os.kill(process, signal.SIGTERM)

    def _start(self, number: int, *, wait: bool = False) -> bool:
        """Starts a worker; returns whether it serves, which is waited for only where that is asked."""
        told, tell = os.pipe()
        # A signal that comes now waits until parent and child are who they are: a child that ran the
        # watcher's answer to it would end others, and not itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        watcher, process = os.getpid(), os.fork()
        if process == 0:
            os.close(told)
            self._be(number, watcher, tell)
        os.close(tell)
        self._running[process] = (number, time.monotonic())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        if self._stopping:  # the signal came while we forked
            os.kill(process, signal.SIGTERM)
        serves = not wait or os.read(told, 1) != b""
        os.close(told)
        return serves

    def _be(self, number: int, watcher: int, tell: int) -> NoReturn:
        """Is a worker, to its end."""
        for each in _ENDING:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        status = 1
        try:
            # A watcher that is killed outright leaves nobody behind who serves unwatched.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() == watcher:
                self.work(number, functools.partial(_tell, tell))
                status = 0
        except NeuralTraderError as error:
            os.write(2, f"{error}\n".encode())
        except BaseException:  # nothing is above us but the copy of the watcher's stack
            traceback.print_exc()
        finally:
            os._exit(status)


def _tell(pipe: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for any but the first
        os.write(pipe, b"1")
