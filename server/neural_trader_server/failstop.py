"""Fail-stop: a server that cannot write its log, or whose books do not agree, ends itself at once.

The store refuses every further unit the moment a write or sync fails, so trading has stopped by
then; what is left is to say so and to end with a code that a supervisor sees. An orderly end is not
to be had: it would wait for a read of stdin, and write to the disk that failed.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import structlog

from neural_trader_governance.alerts import AlertKind
from neural_trader_governance.errors import NeuralTraderError, StorageError

if TYPE_CHECKING:
    from neural_trader_server.app import Services

EXIT_CODE = 1
ANSWER_WITHIN_S = 0.5
"""How long calls in flight may still tell their agents why they failed."""

ALARM_WITHIN_S = 3.0
"""How long people may be told; the store cannot keep the alert for later."""

END_WITHIN_S = 5.0

log = structlog.get_logger(__name__)


async def end_when_failed(services: "Services") -> None:
    """Waits until the store has failed, in whichever thread, and ends the process."""
    loop, failed = asyncio.get_running_loop(), anyio.Event()
    errors: list[StorageError] = []

    def tell(error: StorageError) -> None:
        errors.append(error)
        _end_in_any_case()
        loop.call_soon_threadsafe(failed.set)

    services.store.when_failed(tell)
    await failed.wait()
    await _end(services, errors[0])


async def keep(services: "Services", work: Callable[[], Awaitable[None]]) -> None:
    """Runs background work without which nobody may trade; its failure ends the process."""
    try:
        await work()
    except NeuralTraderError as error:
        _end_in_any_case()
        await _end(services, error)


async def _end(services: "Services", error: NeuralTraderError) -> None:
    log.critical("fail_stop", code=error.code, what=error.what, next_step=error.next_step)
    with anyio.CancelScope(shield=True):
        kind = AlertKind.AUDIT if isinstance(error, StorageError) else AlertKind.RECONCILIATION
        with anyio.move_on_after(ALARM_WITHIN_S):
            await services.alerting.alarm(kind, str(error))
        await anyio.sleep(ANSWER_WITHIN_S)
        with anyio.move_on_after(ANSWER_WITHIN_S):
            await services.abandon()
    sys.stderr.write(f"{error.code}: {error.what}; {error.next_step}\n")
    sys.stderr.flush()
    logging.shutdown()
    os._exit(EXIT_CODE)


def _end_in_any_case() -> None:
    """Ends the process also where the event loop hangs, for example in a sync that does not return."""
    timer = threading.Timer(END_WITHIN_S, os._exit, (EXIT_CODE,))
    timer.daemon = True
    timer.start()
