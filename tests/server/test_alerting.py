"""Alerts reach a webhook within five seconds, signed, through real server processes that may be killed."""

import hashlib
import hmac
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance import alerts
from neural_trader_governance.alerts import Alert, AlertKind
from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_governance.halts import halt
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.alerting import Alerting, DesktopTarget, WebhookTarget, targets_of
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings, load_settings

SECRET = "a webhook secret of this test"


class Receiver:
    """A webhook on loopback: keeps what arrives, and answers what `answers` says (200 when it is empty)."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[float, dict[str, str], bytes]] = queue.Queue()
        self.answers: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.put((time.time(), dict(self.headers.items()), body))
                receiver.hold.wait(10)
                try:
                    self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                    self.end_headers()
                except OSError:
                    pass  # who asked was killed

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the same
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook/PATH-IS-SECRET"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self) -> tuple[float, dict[str, str], dict[str, Any]]:
        moment, headers, body = self.received.get(timeout=20)
        stamp, _, digest = headers["X-Neural-Trader-Signature"].partition(",v1=")
        signed = hmac.new(SECRET.encode(), stamp.removeprefix("t=").encode() + b"." + body, hashlib.sha256)
        assert hmac.compare_digest(digest, signed.hexdigest()), "the signature covers time and body"
        return moment, headers, json.loads(body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.hold.set()
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def serve(home: Home, receiver: Receiver, starter: Any) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts servers that know the receiver, and returns once they serve."""
    started: list[subprocess.Popen[str]] = []
    drains: list[threading.Thread] = []

    def start() -> "subprocess.Popen[str]":
        process = starter.popen(
            *("serve", "--transport", "http", "--port", "0"),
            environment={
                **os.environ,
                "NEURAL_TRADER_HOME": str(home.path),
                "NEURAL_TRADER_LOG_FORMAT": "json",
                "NEURAL_TRADER_ALERT_WEBHOOKS": json.dumps([receiver.url]),
                "NEURAL_TRADER_ALERT_WEBHOOK_SECRET": SECRET,
            },
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if '"serving"' in line:
                break
        else:
            pytest.fail("the server ended before it served")
        drains.append(threading.Thread(target=process.stderr.read, daemon=True))
        drains[-1].start()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for drain in drains:
        drain.join()
    for process in started:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def pull(home: Home) -> None:
    """Halts trading from this process, which delivers nothing."""
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.unit() as unit:
            halt(unit, reason="a test of the alerts", caller=services.person)
    finally:
        services.close()


def deliveries(home: Home) -> dict[str, tuple[int, bool]]:
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            (_, rows), *_ = [found for found in alerts.read_alerts(connection) if found[0].kind == "halt"]
            return {row.target: (row.attempts, row.delivered_us is not None) for row in rows}
    finally:
        services.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true within 20 s"
        time.sleep(0.05)


def test_a_halt_reaches_the_webhook_within_five_seconds(
    home: Home,
    receiver: Receiver,
    serve: Callable[[], object],
    record_property: Callable[[str, object], None],
) -> None:
    serve()
    latencies: list[float] = []
    for _ in range(3):
        pull(home)
        moment, headers, document = receiver.next()
        latencies.append(moment - raised_s(home, document["id"]))
        assert headers["X-Neural-Trader-Alert"] == document["id"]
        assert document["kind"] == "halt"
        assert "a test of the alerts" in document["message"]
    record_property("latency_s_max", round(max(latencies), 3))
    assert max(latencies) < 5.0
    until(lambda: all(done for _, done in deliveries(home).values()))


def raised_s(home: Home, alert_id: str) -> float:
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            return next(
                alert.raised_us / 1e6
                for alert, _ in alerts.read_alerts(connection)
                if alert.alert_id == alert_id
            )
    finally:
        services.close()


def test_a_refused_alert_is_sent_again_until_it_is_taken(
    home: Home, receiver: Receiver, serve: Callable[[], object]
) -> None:
    receiver.answers = [500, 503]
    serve()
    pull(home)
    ids = {receiver.next()[2]["id"] for _ in range(3)}
    assert len(ids) == 1, "every attempt carries the same id"
    until(lambda: any(state == (3, True) for state in deliveries(home).values()))


def test_what_a_killed_process_was_delivering_goes_out_from_the_next_one(
    home: Home, receiver: Receiver, serve: Callable[[], "subprocess.Popen[str]"]
) -> None:
    receiver.hold.clear()  # the receiver has it and does not answer: the delivery is not recorded
    first = serve()
    pull(home)
    *_, before = receiver.next()
    first.send_signal(signal.SIGKILL)
    first.wait()
    receiver.hold.set()
    assert not any(done for target, (_, done) in deliveries(home).items() if target.startswith("webhook"))
    serve()
    *_, after = receiver.next()
    assert after == before
    until(lambda: all(done for _, done in deliveries(home).values()))


def test_two_servers_deliver_an_alert_once(
    home: Home, receiver: Receiver, serve: Callable[[], object]
) -> None:
    serve()
    serve()
    for _ in range(5):
        pull(home)
    ids = [receiver.next()[2]["id"] for _ in range(5)]
    until(lambda: all(done for _, done in deliveries(home).values()))
    assert len(set(ids)) == 5
    assert receiver.received.empty()


def test_a_command_delivers_before_it_ends_where_no_server_runs(
    home: Home, receiver: Receiver, command: Callable[..., Any]
) -> None:
    environment = {
        "NEURAL_TRADER_ALERT_WEBHOOKS": json.dumps([receiver.url]),
        "NEURAL_TRADER_ALERT_WEBHOOK_SECRET": SECRET,
    }
    assert command("halt", "--reason", "by hand", **environment).returncode == 0
    assert receiver.next()[2]["message"].endswith("by hand")
    tested = command("alerts", "test", "--json", **environment)
    assert json.loads(tested.stdout)["delivered"] == 1
    assert receiver.next()[2]["kind"] == "test"
    listed = command("alerts", "list", "--json", **environment)
    assert [row["kind"] for row in json.loads(listed.stdout)["alerts"]][:2] == ["test", "halt"]
    assert "PATH-IS-SECRET" not in listed.stdout + listed.stderr + tested.stdout + tested.stderr


@pytest.mark.anyio
async def test_a_store_that_cannot_be_written_is_told_directly(home: Home, receiver: Receiver) -> None:
    services = Services(home, Settings(), WallClock())
    try:
        alerting = Alerting(services.store, [WebhookTarget(receiver.url, SECRET)])
        await alerting.alarm(AlertKind.AUDIT, "audit_write_failed: the disk is gone; check it")
    finally:
        services.close()
    document = receiver.next()[2]
    assert (document["kind"], document["seq"]) == ("audit_write_failure", -1)


@pytest.mark.anyio
async def test_the_desktop_gets_kind_and_message_and_no_options_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    await DesktopTarget().send(Alert("al_1", "halt", "--icon=x", "alice", "bot", 1, 1))
    assert told.read_text().splitlines()[-3:] == ["--", "halt", "--icon=x"]
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(NetworkError, match="no_desktop"):
        await DesktopTarget().send(Alert("al_1", "halt", "m", "alice", "bot", 1, 1))


@pytest.mark.parametrize("url", ["http://example.com/hook", "ftp://127.0.0.1/x", "not an address"])
def test_words_are_not_sent_in_the_clear_to_other_machines(
    home: Home, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURAL_TRADER_ALERT_WEBHOOKS", json.dumps([url]))
    with pytest.raises(ConfigurationError, match="alert_webhooks") as caught:
        load_settings(home)
    assert url not in str(caught.value)


def test_only_a_server_counts_its_log_as_a_place_where_somebody_reads() -> None:
    assert [target.name for target in targets_of(Settings(), serving=True)] == ["log"]
    assert targets_of(Settings(), serving=False) == []
