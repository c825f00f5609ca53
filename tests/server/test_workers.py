"""Workers: their number is kept, a signal ends them all, and what cannot begin is not begun for ever."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

# Three ways of work, each in a process of its own that says which it is.
SCRIPT = """
import os, signal, sys, time
from neural_trader_server.workers import Watch

def serve(number, ready):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.write(1, f"began {number} {os.getpid()}\\n".encode())
    ready()
    signal.sigwait([signal.SIGTERM])

def leave(number, ready):
    os.write(1, f"began {number} {os.getpid()}\\n".encode())
    if number == 0:
        ready()
        signal.pause()  # ended by the signal, and not in order

def refuse(number, ready):
    os.write(1, f"began {number} {os.getpid()}\\n".encode())
    raise SystemExit(3)

sys.exit(Watch(3, {"serve": serve, "leave": leave, "refuse": refuse}[sys.argv[1]]).keep())
"""


@contextmanager
def watching(kind: str) -> Generator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def began(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Returns the number and the process id of the worker that began next."""
    assert process.stdout is not None
    _, number, worker = next(line for line in process.stdout if line.startswith("began")).split()
    return int(number), int(worker)


def beginnings(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return sum(line.startswith("began") for line in process.stdout)


def is_there(worker: int) -> bool:
    try:
        os.kill(worker, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_replaced_and_a_signal_ends_all() -> None:
    with watching("serve") as process:
        first = [began(process) for _ in range(3)]
        assert first[0][0] == 0, "the one that keeps house begins first"
        assert {number for number, _ in first} == {0, 1, 2}
        os.kill(first[1][1], signal.SIGKILL)
        number, replacement = began(process)
        assert number == first[1][0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        workers = [worker for _, worker in first] + [replacement]
        assert not any(is_there(worker) for worker in workers)


def test_workers_that_end_at_once_again_and_again_are_given_up() -> None:
    with watching("leave") as process:
        assert process.wait(30) == 1
        assert beginnings(process) <= 6, "three quick ends are enough"


def test_where_the_first_cannot_begin_no_other_is_tried() -> None:
    with watching("refuse") as process:
        assert process.wait(30) == 1
        assert beginnings(process) == 1
