"""Alerting: brings alerts to people within five seconds, from whichever process is alive.

The outbox (`governance/alerts.py`) says what is due; every process that serves polls it twice a second
and claims what nobody else delivers. A claim runs out soon, so that what a killed process took with it
goes out from the next one. Receivers drop an id that they have seen: delivery is at least once.
"""

import hashlib
import hmac
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import anyio
import anyio.to_thread
import orjson
import structlog

from neural_trader_governance import alerts
from neural_trader_governance.alerts import Alert, AlertKind
from neural_trader_governance.errors import NetworkError, NeuralTraderError, StorageError
from neural_trader_governance.redaction import redact
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import format_time
from neural_trader_server.settings import Settings, is_loopback

POLL_S = 0.5
TIMEOUT_S = 3.0
CLAIM_S = TIMEOUT_S + 0.5
"""Longer than an attempt may take, and short enough that a killed process's claim delays nobody long."""
RETRY_S_MIN, RETRY_S_MAX = 0.5, 60.0

log = structlog.get_logger(__name__)


class Target(Protocol):
    """Where an alert goes."""

    @property
    def name(self) -> str:
        """Names it in the outbox, without a secret in it."""
        ...

    async def send(self, alert: Alert) -> None:
        """Delivers one alert.

        Raises:
            NetworkError: it may not have arrived; it will be sent again.
        """
        ...


class LogTarget:
    """The server's own log, where every alert stands at least once."""

    name = "log"

    async def send(self, alert: Alert) -> None:
        """Writes one line."""
        log.error("alert", kind=alert.kind, message=redact(alert.message), seq=alert.seq, id=alert.alert_id)


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that takes a JSON document by POST and answers 2xx.

    The header `X-Neural-Trader-Signature: t=SECONDS,v1=HEX` is HMAC-SHA256 over `SECONDS.BODY` with the
    secret that both sides hold; without a secret there is no header. Redirects are not followed.
    """

    url: str
    secret: str | None

    @property
    def name(self) -> str:
        """Returns `webhook-` and a digest: addresses of chat systems are secrets themselves."""
        return f"webhook-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"

    async def send(self, alert: Alert) -> None:
        """Posts the alert; see `Target.send`."""
        import httpx

        body = encode(alert)
        headers = {"Content-Type": "application/json", "X-Neural-Trader-Alert": alert.alert_id}
        if self.secret is not None:
            headers["X-Neural-Trader-Signature"] = sign(self.secret, body, alerts.machine_us() // 1_000_000)
        try:
            # A proxy of the environment is for the outside, not for this machine.
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not is_loopback(self.url)) as client:
                with anyio.fail_after(TIMEOUT_S):
                    answer = await client.post(self.url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise NetworkError(
                "webhook_failed", f"{self.name} failed ({type(error).__name__})", "it will be tried again"
            ) from None  # the original's text may hold the address
        if not answer.is_success:
            raise NetworkError(
                "webhook_refused", f"{self.name} answered {answer.status_code}", "it will be tried again"
            )


class DesktopTarget:
    """The desktop of whoever sits at this machine, by `notify-send`."""

    name = "desktop"

    async def send(self, alert: Alert) -> None:
        """Shows the alert; see `Target.send`."""
        program = shutil.which("notify-send")
        if program is None:
            raise NetworkError("no_desktop", "notify-send is not installed", "install libnotify-bin")
        options = ["--urgency=critical", "--app-name=Neural Trader"]
        command = [program, *options, "--", alert.kind, alert.message]
        try:
            with anyio.fail_after(TIMEOUT_S):
                done = await anyio.run_process(command, check=False)
        except (TimeoutError, OSError) as error:
            raise NetworkError("desktop_failed", type(error).__name__, "it will be tried again") from None
        if done.returncode != 0:
            raise NetworkError(
                "desktop_failed", f"notify-send ended with {done.returncode}", "it will be tried again"
            )


def encode(alert: Alert) -> bytes:
    """Returns the JSON document that a webhook receives."""
    raised = datetime.fromtimestamp(alert.raised_us / 1e6, UTC)
    return orjson.dumps(
        {
            "id": alert.alert_id,
            "kind": alert.kind,
            "message": redact(alert.message),
            "principal": alert.principal,
            "agent": alert.agent,
            "seq": alert.seq,
            "raised_time": format_time(raised),
        },
        option=orjson.OPT_SORT_KEYS,
    )


def sign(secret: str, body: bytes, seconds: int) -> str:
    """Returns the signature header's value for a body sent at a moment (seconds since 1970)."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def targets_of(settings: Settings, *, serving: bool) -> list[Target]:
    """Returns where this process delivers to; only a server's log counts as one that somebody reads."""
    secret = settings.alert_webhook_secret
    plain = None if secret is None else secret.get_secret_value()
    targets: list[Target] = [LogTarget()] if serving else []
    targets += [WebhookTarget(url.get_secret_value(), plain) for url in settings.alert_webhooks]
    if settings.alert_desktop:
        targets.append(DesktopTarget())
    return targets


class Alerting:
    """Delivers what is due, for one process."""

    def __init__(
        self, store: Store, targets: Sequence[Target], *, now_us: Callable[[], int] = alerts.machine_us
    ) -> None:
        self._store = store
        self._targets = targets
        self._now_us = now_us
        self._failure: StorageError | None = None
        self._alarming = anyio.Lock()
        self._alarmed = False
        store.when_failed(self._note)

    async def keep_delivering(self, *, every_s: float = POLL_S) -> None:
        """Delivers for ever: run it in a task group of the server's lifespan.

        A store that cannot be written any more is itself told to every target, without the store, before
        the failure goes on.
        """
        while True:
            if self._failure is not None:
                await self.alarm(AlertKind.AUDIT, str(self._failure))
                raise self._failure
            try:
                await self.deliver()
            except StorageError as error:  # a failed disk is told above, a busy one is tried again
                log.warning("alerts_wait", error=str(error))
            await anyio.sleep(every_s)

    def _note(self, failure: StorageError) -> None:
        """Remembers that the store failed; called by whichever thread met the failure."""
        self._failure = failure

    @property
    def target_names(self) -> list[str]:
        """Where this process delivers to."""
        return [target.name for target in self._targets]

    async def deliver(self, *, only: str | None = None) -> int:
        """Sends everything that is due now, or one alert, once; returns how many deliveries succeeded."""
        due = await anyio.to_thread.run_sync(self._due)
        due = [(alert, target) for alert, target in due if only is None or alert.alert_id == only]
        if not due:
            return 0
        claimed = await anyio.to_thread.run_sync(self._claim, due)
        outcomes: list[tuple[Alert, Target, int, str | None]] = []

        async def attempt(alert: Alert, target: Target, number: int) -> None:
            try:
                await target.send(alert)
            except NeuralTraderError as error:
                outcomes.append((alert, target, number, f"{error.code}: {error.what}"))
                log.warning("alert_undelivered", id=alert.alert_id, target=target.name, error=error.what)
            else:
                outcomes.append((alert, target, number, None))

        async with anyio.create_task_group() as group:
            for alert, target, number in claimed:
                group.start_soon(attempt, alert, target, number)
        if outcomes:
            with anyio.CancelScope(shield=True):  # what was sent is recorded, or it is sent twice
                await anyio.to_thread.run_sync(self._settle, outcomes)
        return sum(error is None for *_, error in outcomes)

    async def alarm(self, kind: AlertKind, message: str) -> None:
        """Tells every target at once and directly, for when the outbox itself cannot be written.

        A second call waits for the first and says nothing more: this process is ending.
        """
        async with self._alarming:
            if not self._alarmed:
                self._alarmed = True
                await self._tell(kind, message)

    async def _tell(self, kind: AlertKind, message: str) -> None:
        now = self._now_us()
        alert = Alert(f"al_direct_{now}", kind.value, redact(message), "desk", "", -1, now)

        async def attempt(target: Target) -> None:
            try:
                await target.send(alert)
            except NeuralTraderError as error:
                log.error("alarm_undelivered", target=target.name, error=error.what)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for target in self._targets:
                    group.start_soon(attempt, target)

    def _due(self) -> list[tuple[Alert, Target]]:
        with self._store.read() as connection:
            now_us = self._now_us()
            return [
                (alert, target)
                for target in self._targets
                for alert in alerts.due(connection, target.name, now_us=now_us)
            ]

    def _claim(self, due: Sequence[tuple[Alert, Target]]) -> list[tuple[Alert, Target, int]]:
        claimed: list[tuple[Alert, Target, int]] = []
        with self._store.unit() as unit:
            now_us = self._now_us()
            until_us = now_us + int(CLAIM_S * 1e6)
            for alert, target in due:
                number = alerts.claim(
                    unit.connection, alert.alert_id, target.name, now_us=now_us, until_us=until_us
                )
                if number:
                    claimed.append((alert, target, number))
        return claimed

    def _settle(self, outcomes: Sequence[tuple[Alert, Target, int, str | None]]) -> None:
        with self._store.unit() as unit:
            now_us = self._now_us()
            for alert, target, number, error in outcomes:
                if error is None:
                    alerts.record_delivered(unit.connection, alert.alert_id, target.name, now_us=now_us)
                else:
                    wait_s = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(number - 1, 10))
                    due_us = now_us + int(wait_s * 1e6)
                    alerts.record_failed(
                        unit.connection, alert.alert_id, target.name, error=error, due_us=due_us
                    )
